"""Tests of aggregator.push."""
