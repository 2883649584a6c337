"""Real servers for tests: start, wait until ready, stop, show the log."""
