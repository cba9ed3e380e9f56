"""A sparse autoencoder reconstructs a re-gauged model's stream as it did at home, once carried.

It is trained with SAELens, carried as a folder and loaded by SAELens again. Position 0 of a
sequence is an attention sink: with it in the variance any autoencoder that has learnt the one
direction looks perfect. So both are shown, with that position and without.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from benchmarks import objects
from benchmarks.paper.claim import Claim, Figure, Size
from benchmarks.paper.smollm2 import batches, model_and_tokenizer
from bmatch import SignedPermutation
from bmatch.models.activations import Reader, run
from bmatch.transport import carry, find_object

LAYER = 12
ACTIVE = 32
TOKENS = {"quick": 8192, "full": 131_072}
FEATURES = {"quick": 1024, "full": 4096}
STEPS = {"quick": 250, "full": 4000}
BATCH = 512
WHERE = {"position 0 left out": 1, "position 0 kept": 0}


def measure(seed: int, size: Size) -> Iterator[Figure]:
    """Variance that the reconstruction leaves, as a share of all, on tokens not trained on."""
    import sae_lens

    torch.manual_seed(seed)
    model, _ = model_and_tokenizer(size.device)
    d = model.config.hidden_size
    gauge = SignedPermutation.random(d, seed=seed)
    for case, first in WHERE.items():
        x = _stream(size)[:, first:].flatten(0, 1)
        x = (x / x.pow(2).mean().sqrt())[torch.randperm(len(x))]
        config = sae_lens.TopKTrainingSAEConfig(d_in=d, d_sae=FEATURES[size.name], k=ACTIVE)
        dictionary = sae_lens.TopKTrainingSAE(config)
        objects.train(dictionary, x, x, STEPS[size.name], BATCH)
        dictionary.cfg.metadata.hook_name = f"blocks.{LAYER}.hook_resid_post"
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            dictionary.save_inference_model(root / "home")
            there = torch.as_tensor(gauge.apply(x.numpy(), dim=1))
            home = objects.left_over(sae_lens.SAE.load_from_disk(root / "home"), x, x)
            yield Figure(case, "at home", "NMSE", "1", home)
            for route, by in {
                "signed": gauge,
                "permutation alone": SignedPermutation(gauge.perm),
            }.items():
                carry(find_object(root / "home"), by, root / route)
                carried = sae_lens.SAE.load_from_disk(root / route)
                left = objects.left_over(carried, there, there)
                yield Figure(case, route, "NMSE", "1", left)


@cache
def _stream(size: Size) -> torch.Tensor:
    """After the block, of all positions, float32 ``[sequences, positions, D]``."""
    model, _ = model_and_tokenizer(size.device)
    reader = Reader.of(model)
    seen: list[torch.Tensor] = []
    for batch in batches(0, TOKENS[size.name], size.device):
        run(reader, batch, [LAYER + 1], lambda _, stream: seen.append(stream.cpu()))
    length = seen[0].shape[1]
    return torch.cat([part for part in seen if part.shape[1] == length])


CLAIM = Claim(
    "A sparse autoencoder carried to another gauge reconstructs as at home; without signs it fails",
    "0.004, 1.08 without signs",
    {
        "model": "SmolLM2-135M",
        "block": LAYER,
        "features": FEATURES,
        "active": ACTIVE,
        "tokens": TOKENS,
        "steps": STEPS,
        "batch": BATCH,
    },
    measure,
    ("sae_lens",),
)
