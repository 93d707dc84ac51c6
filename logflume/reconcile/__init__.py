"""Proving what is on the store, mending what can be mended, and taking an operator's decisions down."""
