"""Tests of config.kinds."""
