"""Weights carried along a gauge and back, in memory and on disk."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping

import pytest
import torch
from accelerate.utils import OffloadedWeightsLoader, offload_state_dict
from tiny_models import WIDTH, in_gauge, load, logits, tensors_of, tiny_model

from bmatch import SignedPermutation, transport
from bmatch.architecture import ResidualAxes


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip_on_disk_is_bit_exact_and_loads(tmp_path, tied):
    model = tiny_model("qwen2", tied)
    model.save_pretrained(tmp_path / "a", max_shard_size="20KB")
    g = SignedPermutation.random(WIDTH, seed=1)
    digest = transport.checkpoint(tmp_path / "a", g, tmp_path / "b")
    back = transport.checkpoint(tmp_path / "b", g.inverse(), tmp_path / "c")
    assert digest != back
    first, last = tensors_of(tmp_path / "a"), tensors_of(tmp_path / "c")
    assert first.keys() == last.keys()
    for name in first:
        assert first[name].dtype == last[name].dtype
        assert torch.equal(first[name].view(torch.int32), last[name].view(torch.int32))

    moved = load(tmp_path / "b")
    assert (moved.lm_head.weight is moved.model.embed_tokens.weight) == tied
    before, after = logits(model), logits(moved)
    assert torch.equal(before.argmax(-1), after.argmax(-1))
    assert (before - after).abs().max() < 1e-3
    index = json.loads((tmp_path / "b" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(first)
    assert not torch.equal(
        tensors_of(tmp_path / "b")["model.norm.weight"], first["model.norm.weight"]
    )


def test_sign_only_gauge_on_disk_leaves_logits_bit_exact(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "a")
    signs = SignedPermutation(range(WIDTH), SignedPermutation.random(WIDTH, seed=2).sign)
    transport.checkpoint(tmp_path / "a", signs, tmp_path / "b")
    assert torch.equal(logits(load(tmp_path / "b")), logits(load(tmp_path / "a")))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_checkpoints_round_trip(tmp_path, dtype):
    tiny_model().to(dtype).save_pretrained(tmp_path / "a")
    g = SignedPermutation.random(WIDTH, seed=4)
    transport.checkpoint(tmp_path / "a", g, tmp_path / "b")
    transport.checkpoint(tmp_path / "b", g.inverse(), tmp_path / "c")
    first, last = tensors_of(tmp_path / "a"), tensors_of(tmp_path / "c")
    assert all(torch.equal(first[n].view(torch.int16), last[n].view(torch.int16)) for n in first)


def test_state_dict_shares_what_was_shared_and_keeps_its_input():
    model = tiny_model(tied=True)
    weights = model.state_dict()
    before = {name: tensor.clone() for name, tensor in weights.items()}
    g = SignedPermutation.random(WIDTH, seed=3)
    carried = transport.state_dict(weights, g, model)
    assert carried["lm_head.weight"] is carried["model.embed_tokens.weight"]
    assert all(torch.equal(weights[name], before[name]) for name in weights)
    back = transport.state_dict(carried, g.inverse(), model.config)
    assert all(torch.equal(back[name], before[name]) for name in before)
    assert (logits(in_gauge(model, g)) - logits(model)).abs().max() < 1e-3


class Casting(Mapping):
    """Each tensor is made when it is asked for, and nobody else's."""

    def __init__(self, weights):
        self._weights = weights

    def __getitem__(self, name):
        return self._weights[name].to(torch.bfloat16)

    def __iter__(self):
        return iter(self._weights)

    def __len__(self):
        return len(self._weights)


class Refilling(Casting):
    """All tensors pass through one buffer."""

    def __init__(self, weights):
        super().__init__(weights)
        self._buffer = torch.empty(max(weight.numel() for weight in weights.values()))

    def __getitem__(self, name):
        weight = self._weights[name]
        return self._buffer[: weight.numel()].view(weight.shape).copy_(weight)


def offloaded(weights, folder):
    offload_state_dict(folder, weights)
    return OffloadedWeightsLoader(save_folder=folder)


@pytest.mark.parametrize(
    "lazily",
    [offloaded, lambda weights, _: Casting(weights), lambda weights, _: Refilling(weights)],
    ids=["offloaded", "casting", "refilling"],
)
def test_tensors_made_on_access_are_carried_each_for_itself(tmp_path, lazily):
    model = tiny_model(tied=False, num_hidden_layers=4)
    weights = lazily(model.state_dict(), tmp_path)
    g = SignedPermutation.random(WIDTH, seed=5)
    carried = transport.state_dict(weights, g, model)
    alive = {name: weights[name].clone() for name in weights}
    expected = transport.state_dict(alive, g, model)
    assert all(torch.equal(carried[name], expected[name]) for name in expected)
    assert len({tensor.data_ptr() for tensor in carried.values()}) == len(carried)


def test_tensors_made_on_access_are_not_held(monkeypatch):
    alive = []

    class Watching(Casting):
        def __getitem__(self, name):
            tensor = super().__getitem__(name)
            alive.append(weakref.ref(tensor))
            return tensor

    def transform(axes, name, tensor, gauge):
        assert sum(reference() is not None for reference in alive) <= 2
        return plain(axes, name, tensor, gauge)

    plain = ResidualAxes.transform
    monkeypatch.setattr(ResidualAxes, "transform", transform)
    model = tiny_model()
    transport.state_dict(
        Watching(model.state_dict()), SignedPermutation.identity(WIDTH), model.config
    )
    assert len(alive) == len(model.state_dict())


def test_what_no_gauge_touches_is_a_new_tensor_too():
    model = tiny_model("qwen2")
    weights = model.state_dict()
    carried = transport.state_dict(weights, SignedPermutation.identity(WIDTH), model)
    places = {tensor.data_ptr() for tensor in weights.values()}
    assert places.isdisjoint(tensor.data_ptr() for tensor in carried.values())
    assert all(torch.equal(weights[name], carried[name]) for name in weights)


def test_tensors_without_entries_are_refused():
    model = tiny_model().to("meta")
    with pytest.raises(ValueError, match=r"model\.embed_tokens\.weight is on the meta device"):
        transport.state_dict(model.state_dict(), SignedPermutation.identity(WIDTH), model)


def test_wrapped_models_are_known_and_the_names_they_leave_are_refused():
    model = tiny_model()
    g = SignedPermutation.random(WIDTH, seed=6)
    wrapped = torch.nn.DataParallel(model)
    carried = transport.state_dict(model.state_dict(), g, wrapped)
    expected = transport.state_dict(model.state_dict(), g, model)
    assert all(torch.equal(carried[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match=r"take those of model\.module"):
        transport.state_dict(wrapped.state_dict(), g, wrapped)


def test_refusals_leave_nothing_behind(pair, tmp_path):
    with pytest.raises(
        ValueError, match="the gauge acts on 8 coordinates, and the residual stream"
    ):
        transport.checkpoint(pair[0], SignedPermutation.identity(8), tmp_path / "out")
    broken = tiny_model()
    with torch.no_grad():
        broken.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj\.weight .* holds 1 NaN"):
        transport.checkpoint(tmp_path / "broken", SignedPermutation.identity(WIDTH), tmp_path / "o")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
