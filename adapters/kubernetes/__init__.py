"""Kubernetes: one cluster's services, workloads, places and rules, by list and watch."""
