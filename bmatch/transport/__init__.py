"""Carrying coordinate-indexed objects from one checkpoint to another, one file an object."""

from bmatch.transport.network import network_checkpoint, network_state_dict
from bmatch.transport.optimizer import optimizer_state
from bmatch.transport.training import trainer_checkpoint
from bmatch.transport.weights import checkpoint, state_dict

__all__ = [
    "checkpoint",
    "network_checkpoint",
    "network_state_dict",
    "optimizer_state",
    "state_dict",
    "trainer_checkpoint",
]
