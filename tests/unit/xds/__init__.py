"""Tests of aggregator.xds."""
