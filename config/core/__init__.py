"""Kubernetes' own objects, decoded for every adapter that meets them."""
