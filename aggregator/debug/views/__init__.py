"""The views under /debug, a module each; each declares `VIEW`."""
