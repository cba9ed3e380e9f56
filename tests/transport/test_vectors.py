"""Directions in files and in memory: what they read out of carried activations is what it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bmatch import SignedPermutation
from bmatch.transport.finding import UnknownObjectError, find_object
from bmatch.transport.objects import carry
from bmatch.transport.vectors import vector

D = 6
GAUGE = SignedPermutation.random(D, seed=3)
V = torch.randn(4, D, generator=torch.Generator().manual_seed(0))


def carried(path, kind="vector"):
    found = find_object(path)
    assert (found.kind, found.width) == ("directions", D)
    out = path.with_name(f"new_{path.name}")
    carry(found, GAUGE, out)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(4, D), (D,), (2, 2, D), (1, 1, D)])
def test_bare_tensors(dtype, shape, tmp_path):
    v = V.to(dtype).reshape(-1)[: int(np.prod(shape))].reshape(shape)
    torch.save(v, tmp_path / "v.pt")
    assert torch.equal(torch.load(carried(tmp_path / "v.pt")), GAUGE.apply(v))
    sidecar = json.loads((tmp_path / "new_v.pt.bmatch.json").read_text())
    assert sidecar["bmatch_group"] == GAUGE.group
    save_file({"steering_vector": v}, tmp_path / "v.safetensors")
    made = load_file(carried(tmp_path / "v.safetensors"))
    assert torch.equal(made["steering_vector"], GAUGE.apply(v))
    assert not (tmp_path / "new_v.safetensors.bmatch.json").exists()
    np.save(tmp_path / "v.npy", v.float().numpy())
    np.testing.assert_array_equal(
        np.load(carried(tmp_path / "v.npy")), GAUGE.apply(v.float().numpy())
    )


def test_by_layer_and_by_hook(tmp_path):
    torch.save({k: V[k] for k in range(4)}, tmp_path / "v.pt")
    made = torch.load(carried(tmp_path / "v.pt"))
    assert all(torch.equal(made[k], GAUGE.apply(V[k])) for k in range(4))
    save_file({f"blocks.{k}.hook_resid_post": V[k] for k in (1, 2)}, tmp_path / "h.safetensors")
    assert find_object(tmp_path / "h.safetensors").format == "directions by hook"
    made = load_file(carried(tmp_path / "h.safetensors"))
    assert torch.equal(made["blocks.2.hook_resid_post"], GAUGE.apply(V[2]))
    save_file({"blocks.1.attn.hook_z": V[1].clone()}, tmp_path / "z.safetensors")
    with pytest.raises(UnknownObjectError):
        find_object(tmp_path / "z.safetensors")


def test_svec_keeps_what_else_it_tells(tmp_path):
    told = {
        "model_type": "llama",
        "directions": {str(k): V[k].tolist() for k in range(4)},
        "explained_variances": {str(k): 0.1 * k for k in range(4)},
    }
    (tmp_path / "v.svec").write_text(json.dumps(told))
    found = find_object(tmp_path / "v.svec")
    assert (found.format, found.where) == ("activation-steering", {"model": "llama"})
    made = json.loads(carried(tmp_path / "v.svec").read_text())
    assert made["explained_variances"] == told["explained_variances"]
    np.testing.assert_array_equal(
        made["directions"]["2"], GAUGE.apply(np.array(told["directions"]["2"]))
    )


def test_interventions_of_low_rank(tmp_path):
    """``h + R^T (W h + b - R h)``: what LoReFT adds goes along with the stream."""
    generator = torch.Generator().manual_seed(1)
    r, w, b = (torch.randn(s, generator=generator) for s in ((D, 2), (2, D), (2,)))
    names = ("rotate_layer", "learned_source.weight", "learned_source.bias")
    torch.save(dict(zip(names, (r, w, b), strict=True)), tmp_path / "v.bin")
    made = torch.load(carried(tmp_path / "v.bin"))

    def added(r, w, b, h):
        return (h @ w.T + b - h @ r) @ r.T

    expected = GAUGE.apply(added(r, w, b, V))
    torch.testing.assert_close(added(*(made[n] for n in names), GAUGE.apply(V)), expected)


def test_linear_probes_of_torch(tmp_path):
    probe = torch.nn.Linear(D, 2)
    torch.save(probe.state_dict(), tmp_path / "probe.pt")
    assert find_object(tmp_path / "probe.pt").format == "linear probe"
    moved = torch.nn.Linear(D, 2)
    moved.load_state_dict(torch.load(carried(tmp_path / "probe.pt")))
    torch.testing.assert_close(moved(GAUGE.apply(V)), probe(V))


@dataclass(frozen=True)
class SteeringVector:
    layer_activations: dict
    layer_type: str = "decoder_block"


def test_in_memory():
    by_layer = {k: V[k] for k in range(4)}
    moved = vector(SteeringVector(by_layer), GAUGE)
    assert torch.equal(moved.layer_activations[3], GAUGE.apply(V[3]))
    control = SimpleNamespace(model_type="llama", directions={2: V[2].numpy()})
    np.testing.assert_array_equal(vector(control, GAUGE).directions[2], GAUGE.apply(V[2].numpy()))
    np.testing.assert_array_equal(control.directions[2], V[2].numpy())
    assert torch.equal(vector(V.T, GAUGE, 0), GAUGE.apply(V).T)
    with pytest.raises(TypeError, match="int is no array"):
        vector(3, GAUGE)


def test_what_is_no_direction(tmp_path):
    torch.save(torch.zeros(0), tmp_path / "none.pt")
    with pytest.raises(UnknownObjectError):
        find_object(tmp_path / "none.pt")
    torch.save({"something": V}, tmp_path / "v.pt")
    with pytest.raises(UnknownObjectError):
        find_object(tmp_path / "v.pt")
    (tmp_path / "v.json").write_text('{"model": "m"}')
    with pytest.raises(UnknownObjectError):
        find_object(tmp_path / "v.json")
    (tmp_path / "both").mkdir()
    torch.save(V, tmp_path / "both/a.pt")
    torch.save(V[:, :3].clone(), tmp_path / "both/b.pt")
    with pytest.raises(ValueError, match="different widths"):
        find_object(tmp_path / "both")
    with pytest.raises(ValueError, match="kind must be one of"):
        find_object(tmp_path / "v.pt", "cake")
