"""The memory that is foreseen of a job, beside what it takes."""

from __future__ import annotations

import pytest
import torch
from tiny_models import VOCABULARY, noisy_copy, tiny_model

import bmatch
from bmatch.align import align_checkpoints
from bmatch.footprint import job_bytes
from bmatch.jobs.phases import phase, resident_bytes
from bmatch.models.checkpoint import open_checkpoint

SIZES = {"hidden_size": 256, "intermediate_size": 4096, "num_hidden_layers": 6}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tokenizer):
    root = tmp_path_factory.mktemp("models")
    source = tiny_model(**SIZES)
    for name, model in (("source", source), ("target", noisy_copy(source, 0.05, 1))):
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root / "source", root / "target"


def test_what_is_foreseen_is_what_it_takes(folders):
    align_checkpoints(*folders, tokens=64, witness=False)  # libraries are loaded
    before, took = resident_bytes(), []
    with phase("all", took):
        found = align_checkpoints(*folders, tokens=600, witness=False)
    weights = sum(open_checkpoint(folder).num_bytes for folder in folders)
    assert found.foreseen_bytes - before > weights
    ratio = (took[0].peak_bytes - before) / (found.foreseen_bytes - before)
    assert 0.7 < ratio < 1.15


def test_of_a_path_too(folders, tmp_path):
    third = tmp_path / "third"
    noisy_copy(tiny_model(**SIZES), 0.05, 2).save_pretrained(third)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(VOCABULARY, (2, 256), generator=generator) for _ in range(2)]
    for back in (None, batches[::-1]):
        path = bmatch.Trajectory(
            [*folders, third], batches, back=back, witness=False, cache_dir=tmp_path / "hops"
        )
        before, took = resident_bytes(), []
        foreseen = path.foreseen_bytes
        with phase("all", took):
            path.find()
        ratio = (took[0].peak_bytes - before) / (foreseen - before)
        assert 0.7 < ratio < 1.15
        assert path.foreseen_bytes == 0  # all is found
    again = bmatch.Trajectory(
        [*folders, third], batches, witness=False, cache_dir=tmp_path / "hops"
    )
    assert again.foreseen_bytes == 0
    by_weights = bmatch.Trajectory([*folders, third], evidence="weights")
    assert by_weights.foreseen_bytes == 0


def test_it_grows_by_what_is_beside_and_by_precision(folders):
    held = [open_checkpoint(folder) for folder in folders]
    assert held[0].axes.vocab_size == VOCABULARY
    weights = sum(checkpoint.num_bytes for checkpoint in held)
    full = job_bytes(held, "float32", 512, 0)
    assert job_bytes(held, "float32", 512, 10**9) - full == pytest.approx(10**9, rel=0.02)
    half = job_bytes(held, "bfloat16", 512, 0)
    # Half of the weights; and a file is in memory while the other precision is made of it.
    assert full - half == pytest.approx(0.5 * weights - 0.5 * weights, abs=0.2 * weights)
