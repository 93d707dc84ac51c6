"""The pure part: no clock, socket, thread or file. Time comes in with events."""
