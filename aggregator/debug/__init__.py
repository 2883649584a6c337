"""Read-only views of the state over HTTP."""
