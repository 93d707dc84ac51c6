"""Fewer, larger files where finishing does not see to it; which files became which is on record."""
