"""Carrying coordinate-indexed objects from one checkpoint to another, one file an object."""

from bmatch.transport.adapters import adapter
from bmatch.transport.network import network_checkpoint, network_state_dict
from bmatch.transport.neuron_lists import NeuronList, carry_list, find_list
from bmatch.transport.neurons import attributions, neuron_frame, neurons
from bmatch.transport.weights import checkpoint, state_dict

__all__ = [
    "NeuronList",
    "adapter",
    "attributions",
    "carry_list",
    "checkpoint",
    "find_list",
    "network_checkpoint",
    "network_state_dict",
    "neuron_frame",
    "neurons",
    "state_dict",
]
