"""Istio's kinds, a module each, found by what they declare."""
