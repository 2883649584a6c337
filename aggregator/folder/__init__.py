"""Reads a folder of files on behalf of an adapter, and follows it while it changes."""
