"""Reads services, instances and rules from etcd."""
