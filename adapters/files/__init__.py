"""Reads services and rules from a folder of files."""
