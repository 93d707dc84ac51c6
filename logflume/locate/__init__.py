"""Which file holds an offset, and why: read from the ledger, in a few reads whatever its length."""
