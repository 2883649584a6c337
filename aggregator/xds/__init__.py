"""Speaks xDS: subscriptions without I/O, and the gRPC and HTTP servers around them."""
