"""Reads services, rules and datacenters from Consul."""
