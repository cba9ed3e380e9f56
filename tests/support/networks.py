"""Small models of transformers with every gauge space they have, and copies in planted gauges."""

from __future__ import annotations

from functools import cache

import torch
import transformers

from bmatch import architecture
from bmatch.architecture.tiny import inputs_for, tiny_model
from bmatch.network_gauge import NetworkGauge

HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2}
CONFIGS = {
    "llama": HEADS,  # grouped queries
    "qwen3_moe": HEADS,
    "gemma2": {},
    "gpt2": {},  # LayerNorm, q, k and v in one
}


@cache
def model_of(model_type):
    """The model and its inputs."""
    config = transformers.CONFIG_MAPPING[model_type](**CONFIGS[model_type])
    model = tiny_model(config, transformers.AutoModelForCausalLM.from_config)
    return model, inputs_for(model)


@cache
def network(model_type):
    """The model, its inputs, its spaces, those in heads among them."""
    model, inputs = model_of(model_type)
    return model, inputs, architecture.derive(model, inputs)


def tensors_of(model):
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def noisy(tensors, noise, seed=5):
    """Every matrix with noise in proportion to its standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor + noise * tensor.std() * torch.randn(tensor.shape, generator=generator)
        if tensor.is_floating_point() and tensor.ndim > 1
        else tensor
        for name, tensor in tensors.items()
    }


def in_gauge(tensors, axes, seed):
    """The tensors in coordinates of their own, and the gauge that leads there."""
    gauge = NetworkGauge.random(axes, seed)
    carry = gauge.on(axes)
    return {name: carry(name, tensor) for name, tensor in tensors.items()}, gauge
