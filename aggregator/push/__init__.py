"""Decides what is built when, and for whom: debounce, world, views and the engine."""
