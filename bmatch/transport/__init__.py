"""Carrying coordinate-indexed objects from one checkpoint to another, one file an object."""

from bmatch.transport.weights import checkpoint, state_dict

__all__ = ["checkpoint", "state_dict"]
