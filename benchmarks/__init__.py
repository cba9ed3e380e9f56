"""Measurements of bmatch beside its peers: ``python -m benchmarks <name>``."""
