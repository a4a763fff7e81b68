"""Measurements with a verdict: drift, performance, slices."""
