"""Cases that need addresses of their own; `tests/e2e/test_own_network.py` runs them."""
