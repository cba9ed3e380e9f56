"""Carrying coordinate-indexed objects from one checkpoint to another, one file an object."""

from bmatch.transport.network import network_checkpoint
from bmatch.transport.weights import checkpoint, state_dict

__all__ = ["checkpoint", "network_checkpoint", "state_dict"]
