"""The running program: one parent, N spawned workers."""
