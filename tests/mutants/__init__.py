"""Known-wrong variants of the product, each one a line or two, that the fast tests have to catch."""
