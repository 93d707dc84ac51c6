"""What could not be placed: told by reason, and run again when the reason is gone."""
