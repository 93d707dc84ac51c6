"""The account: what was run under faults, and what came of it. See ``__main__``."""
