"""Finds Kubernetes clusters by kubeconfigs in files and secrets, and announces them."""
