"""Supervises adapters, keeps their shards and merges them into one set of services."""
