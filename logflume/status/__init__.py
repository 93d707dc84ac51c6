"""What people and monitoring see: metrics, a page, and the state of the ledgers."""
