"""Dry runs beside real ones: the same bytes and files, and no more memory than was told."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from tiny_models import WIDTH, tensors_of, tiny_model

from bmatch import SignedPermutation, transport
from bmatch.models.plan import Planning
from bmatch.transport.merge import Merged, merge

BESIDE = """
import json, sys, torch
from dataclasses import asdict
from bmatch import SignedPermutation
from bmatch.jobs.phases import phase
from bmatch.models.hollow import write_hollow
from bmatch.models.plan import Planning
from bmatch.transport import checkpoint
from pathlib import Path

threads, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(threads)
config = dict(
    model_type="llama", hidden_size=512, intermediate_size=8192, num_hidden_layers=8,
    num_attention_heads=8, num_key_value_heads=8, vocab_size=16_000, dtype="float32",
)
folder.mkdir()
(folder / "config.json").write_text(json.dumps(config))
write_hollow(folder, config, shard=60_000_000)
gauge = SignedPermutation.random(512, seed=0)
planning, phases = Planning(), []
checkpoint(folder, gauge, folder.parent / "out", writer=planning)
with phase("before", phases):
    pass
with phase("apply", phases):
    checkpoint(folder, gauge, folder.parent / "out")
print(json.dumps({**asdict(planning.plan), "taken": phases[1].peak_bytes - phases[0].peak_bytes}))
"""
"""In a process of its own: in one that other tests have used, memory comes and goes by itself."""


@pytest.mark.parametrize("threads", [1, 3])
def test_a_folder_of_shards_takes_the_memory_of_few_tensors(tmp_path, threads):
    code = [sys.executable, "-c", BESIDE, str(threads), str(tmp_path / "model")]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    written = [path.stat().st_size for path in (tmp_path / "out").iterdir()]
    assert told["written_bytes"] == sum(written) > 500e6
    assert told["files"] == len(written) > 8
    largest = 4 * 512 * 16_000
    assert told["taken"] <= told["memory_bytes"]
    assert told["memory_bytes"] <= largest * threads + (threads + 1) * 2**23
    assert told["taken"] < 0.25 * sum(written)


@pytest.fixture
def folder(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "a", max_shard_size="20KB")
    (tmp_path / "a" / "notes.md").write_text("kept")
    (tmp_path / "a" / "pytorch_model.bin").write_text("left out")
    return tmp_path / "a"


def sizes(folder):
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]


def test_what_is_told_is_what_is_done(folder, tmp_path):
    said, planning, g = [], Planning(), SignedPermutation.random(WIDTH, seed=1)
    transport.checkpoint(folder, g, tmp_path / "out", tell=said.append, writer=planning)
    assert not (tmp_path / "out").exists()
    transport.checkpoint(folder, g, tmp_path / "out", tell=said.append)
    assert said == ["not copied along: pytorch_model.bin (other weights, or training state)"] * 2
    plan = planning.plan
    assert plan.written_bytes == sum(sizes(tmp_path / "out"))
    assert plan.files == len(sizes(tmp_path / "out"))
    assert plan.read_bytes == sum(sizes(folder)) - len("left out")
    assert plan.tensors == len(tensors_of(folder))
    assert plan.seconds > 0
    assert plan.free_bytes > 0


def test_a_dry_run_refuses_what_the_real_one_refuses(folder, tmp_path):
    with pytest.raises(ValueError, match="the gauge acts on 8 coordinates"):
        transport.checkpoint(
            folder, SignedPermutation.identity(8), tmp_path / "out", writer=Planning()
        )


def test_of_merging_and_of_an_optimizer(folder, tmp_path):
    for name, call in {
        "merged": lambda out, **how: merge(folder, [Merged(folder)], out, **how),
        "trained": lambda out, **how: transport.trainer_checkpoint(
            folder, SignedPermutation.random(WIDTH, seed=1), out, **how
        ),
    }.items():
        model = tiny_model()
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.arange(8)[None]).logits.square().mean().backward()
        optimizer.step()
        torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        planning = Planning()
        call(tmp_path / name, writer=planning)
        assert not (tmp_path / name).exists()
        call(tmp_path / name)
        assert planning.plan.files == len(sizes(tmp_path / name))
        assert planning.plan.written_bytes == pytest.approx(sum(sizes(tmp_path / name)), rel=0.01)
