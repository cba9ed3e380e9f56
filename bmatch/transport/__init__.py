"""Carrying coordinate-indexed objects from one checkpoint to another, one file an object."""
