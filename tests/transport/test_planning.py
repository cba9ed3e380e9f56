"""Plans of objects beside what is written of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import WIDTH

from bmatch import SignedPermutation
from bmatch.transport import carry, find_object
from bmatch.transport.planning import plan_of


@pytest.fixture
def dictionary(tmp_path):
    (tmp_path / "sae").mkdir()
    shapes = {"W_enc": (WIDTH, 60), "W_dec": (60, WIDTH), "b_enc": (60,), "b_dec": (WIDTH,)}
    weights = {name: torch.rand(shape) for name, shape in shapes.items()}
    save_file(weights, tmp_path / "sae" / "sae_weights.safetensors")
    told = {"architecture": "standard", "d_in": WIDTH, "d_sae": 60}
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(told))
    return tmp_path / "sae"


def test_of_a_dictionary_and_of_what_was_carried(dictionary, tmp_path):
    g = SignedPermutation.random(WIDTH, seed=0)
    for source, out in ((dictionary, tmp_path / "b"), (tmp_path / "b", tmp_path / "c")):
        plan = plan_of(find_object(source), g, out)
        assert not out.exists()
        carry(find_object(source), g, out)
        written = [path.stat().st_size for path in out.iterdir()]
        assert plan.written_bytes == sum(written)
        assert plan.files == len(written)
        assert plan.tensors == 4
        assert plan.read_bytes == sum(path.stat().st_size for path in source.iterdir())


def test_of_a_file_with_notes_beside_it(tmp_path):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=WIDTH))
    g = SignedPermutation.random(WIDTH, seed=0)
    found = find_object(tmp_path / "v.npy")
    plan = plan_of(found, g, tmp_path / "out.npy")
    carry(found, g, tmp_path / "out.npy")
    written = [path.stat().st_size for path in tmp_path.glob("out.npy*")]
    assert (plan.files, plan.written_bytes) == (len(written), sum(written))


def test_a_gauge_of_another_width_is_refused(dictionary, tmp_path):
    with pytest.raises(ValueError, match="the gauge acts on 8 coordinates"):
        plan_of(find_object(dictionary), SignedPermutation.identity(8), tmp_path / "b")
    with pytest.raises(FileExistsError):
        plan_of(find_object(dictionary), SignedPermutation.identity(WIDTH), dictionary)
