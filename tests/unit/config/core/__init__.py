"""Tests of config.core."""
