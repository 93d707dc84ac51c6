"""Open parts on local disk, compressed as they grow; nothing here has to survive a crash."""
