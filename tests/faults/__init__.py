"""The fault catalogue, and which tests cover it. See ``__main__``."""
