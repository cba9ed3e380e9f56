"""Carrying coordinate-indexed objects from one checkpoint to another, one file an object."""

from bmatch.transport.adapters import adapter
from bmatch.transport.by_mergekit import merge_by_mergekit
from bmatch.transport.carrying import carry
from bmatch.transport.finding import find_object
from bmatch.transport.merge import Merged, merge
from bmatch.transport.network import network_checkpoint, network_state_dict
from bmatch.transport.neuron_lists import NeuronList
from bmatch.transport.neurons import attributions, neuron_frame, neurons
from bmatch.transport.objects import StreamObject
from bmatch.transport.optimizer import optimizer_state
from bmatch.transport.probes import probe
from bmatch.transport.sae import sae
from bmatch.transport.sae_directions import sae_directions
from bmatch.transport.training import TrainingRun, trainer_checkpoint
from bmatch.transport.vectors import vector
from bmatch.transport.weights import checkpoint, state_dict

__all__ = [
    "Merged",
    "NeuronList",
    "StreamObject",
    "TrainingRun",
    "adapter",
    "attributions",
    "carry",
    "checkpoint",
    "find_object",
    "merge",
    "merge_by_mergekit",
    "network_checkpoint",
    "network_state_dict",
    "neuron_frame",
    "neurons",
    "optimizer_state",
    "probe",
    "sae",
    "sae_directions",
    "state_dict",
    "trainer_checkpoint",
    "vector",
]
