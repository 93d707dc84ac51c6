"""Every effect of the daemon, and what a crash, a pause or a lie there may not do. See ``points``."""
