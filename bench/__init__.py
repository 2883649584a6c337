"""Measures how long changes take to reach proxies and what they cost, beside the transport alone.

Knows the product from outside: its ports, its process and one adapter. Nothing imports it.
"""
