"""One suite that every adapter passes on its real server."""
