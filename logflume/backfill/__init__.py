"""Ingesting a bounded range of a topic again: into a tree of its own (replay), or what a tree has lost (repair)."""
