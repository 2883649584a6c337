"""A module per command; each declares `COMMAND`, and is imported only when it is asked for."""
