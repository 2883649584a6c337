"""Measures how long a change takes to reach proxies, and what it costs."""
