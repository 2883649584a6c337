"""Builders, fakes and real servers that the suites share."""
