"""Sparse dictionaries of every format: features of carried activations are what they were."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bmatch import SignedPermutation
from bmatch.files.containers import open_container
from bmatch.transport.finding import UnknownObjectError, find_object
from bmatch.transport.objects import carry
from bmatch.transport.sae import sae
from bmatch.transport.sae_formats import FORMATS

D, F = 6, 10
GAUGE = SignedPermutation.random(D, seed=3)
LENGTHS = {"d": D, "o": D, "f": F, "h": 2, "k": 3, "l": 4, "n": 5, "_": 7}


def made(known):
    """A file of a format, every number another one."""
    generator = torch.Generator().manual_seed(0)
    return {
        name.replace("{}", "0"): torch.randn(
            [LENGTHS[letter] for letter in shape.split()], generator=generator
        )
        for name, shape in known.tensors.items()
    }


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_every_axis_of_the_stream_moves_and_no_other(known, tmp_path):
    tensors = made(known)
    save_file(tensors, tmp_path / "sae.safetensors")
    found = find_object(tmp_path / "sae.safetensors", "sae")
    assert found.width == D
    carry(found, GAUGE, tmp_path / "new.safetensors")
    new = load_file(tmp_path / "new.safetensors")
    matrix = torch.from_numpy(GAUGE.matrix()).float()
    for name, tensor in tensors.items():
        expected = tensor
        for axis, letter in enumerate(known.words(name)):
            if letter in ("d", "o"):
                expected = torch.movedim(expected.movedim(axis, -1) @ matrix.T, -1, axis)
        torch.testing.assert_close(new[name], expected, rtol=0, atol=0)
    carry(find_object(tmp_path / "new.safetensors", "sae"), GAUGE.inverse(), tmp_path / "back")
    back = load_file(tmp_path / "back")
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def saelens(folder, width=D, **config):
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    shapes = {"W_enc": (width, F), "W_dec": (F, width), "b_enc": (F,), "b_dec": (width,)}
    save_file(
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()},
        folder / "sae_weights.safetensors",
    )
    told = {"d_in": width, "d_sae": F, "architecture": "standard", "an_unknown_field": [1, {}]}
    (folder / "cfg.json").write_text(json.dumps(told | config))
    save_file({"sparsity": torch.ones(F)}, folder / "sparsity.safetensors")
    return folder


def test_a_folder_tells_model_and_hook_and_keeps_all_else(tmp_path):
    metadata = {"model_name": "smollm2", "hook_name": "blocks.3.hook_resid_post"}
    folder = saelens(tmp_path / "sae", metadata=metadata)
    found = find_object(folder)
    assert (found.kind, found.format) == ("sparse dictionary", "SAELens")
    assert (found.where["model"], found.where["hook"]) == ("smollm2", metadata["hook_name"])
    carry(found, GAUGE, tmp_path / "new")
    assert (tmp_path / "new/cfg.json").read_bytes() == (folder / "cfg.json").read_bytes()
    assert (
        open_container(tmp_path / "new/sae_weights.safetensors").rest["bmatch_group"] == GAUGE.group
    )
    assert torch.equal(load_file(tmp_path / "new/sparsity.safetensors")["sparsity"], torch.ones(F))


def test_in_memory():
    tensors = {name: t.numpy() for name, t in made(FORMATS[0]).items() if "attn" not in name}
    moved = sae(tensors, GAUGE)
    x = np.random.default_rng(0).standard_normal((4, D))
    np.testing.assert_allclose(GAUGE.apply(x) @ moved["W_enc"], x @ tensors["W_enc"], atol=1e-12)
    with pytest.raises(ValueError, match="no format of sparse dictionaries"):
        sae(tensors, SignedPermutation.random(D + 1, seed=0))
    with pytest.raises(ValueError, match="no format of sparse dictionaries"):
        sae({**tensors, "W_other": tensors["W_enc"]}, GAUGE)


def test_names_alone_tell_no_axes(tmp_path):
    """Qwen Scope has SAELens' names, transposed; in a square one nothing tells them apart."""
    square = {"W_enc": torch.randn(D, D), "W_dec": torch.randn(D, D)}
    square |= {"b_enc": torch.randn(D), "b_dec": torch.randn(D)}
    save_file(square, tmp_path / "sae.safetensors")
    with pytest.raises(ValueError, match="cannot be told"):
        find_object(tmp_path / "sae.safetensors")
    with pytest.raises(ValueError, match="cannot be told"):
        sae(square, GAUGE)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hook_name": "blocks.3.mlp.hook_post"}, "leaves it as it is"),
        ({"hook_name": "somewhere"}, "'somewhere' lies in the residual stream is not known"),
        ({"d_in": D + 1}, "no format of sparse dictionaries"),
    ],
)
def test_what_cannot_be_carried(config, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        find_object(saelens(tmp_path / "sae", **config))


@pytest.mark.parametrize(
    "config",
    [
        {"normalize_activations": "layer_norm"},
        {"model_from_pretrained_kwargs": {"center_writing_weights": True}},
    ],
)
def test_signs_do_not_commute_with_means(config, tmp_path):
    found = find_object(saelens(tmp_path / "sae", **config))
    with pytest.raises(ValueError, match=r"cannot be carried by a signed_permutation gauge.*mean"):
        carry(found, GAUGE, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for sign in (1, -1):
        raw = SignedPermutation(GAUGE.perm, np.full(D, sign))
        carry(found, raw, tmp_path / f"new{sign}")


@pytest.mark.parametrize("name", ["trainer_state.pt", "optimizer_0.pt"])  # SAELens, sparsify
def test_the_optimizer_beside_a_dictionary_is_refused_by_name(tmp_path, name):
    folder = saelens(tmp_path / "sae")
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2, D))])
    state = optimizer.state_dict()
    torch.save({"optimizer": state} if "trainer" in name else state, folder / name)
    with pytest.raises(ValueError, match=rf"{name} .*optimizer that trained it.* take it out"):
        find_object(folder)
    (folder / name).unlink()
    assert find_object(folder).width == D


def test_strange_files_and_widths(tmp_path):
    folder = saelens(tmp_path / "sae")
    with pytest.raises(ValueError, match="acts on 7 coordinates"):
        carry(find_object(folder), SignedPermutation.random(7, seed=0), tmp_path / "new")
    torch.save({"a": torch.ones(3)}, folder / "trainer_state.pt")
    with pytest.raises(ValueError, match=r"trainer_state\.pt lies beside"):
        find_object(folder)
    with pytest.raises(UnknownObjectError, match="nothing that is known"):
        find_object(folder / "trainer_state.pt", "sae")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownObjectError):
        find_object(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        find_object(tmp_path / "nothing")


def test_companions_without_coordinates(tmp_path):
    """A sparsity of features tells no width, and a whitening moves as what it is done to."""
    folder = saelens(tmp_path / "sae")
    (folder / "cfg.json").unlink()
    whitening = {"mean": torch.randn(D), "matrix": torch.randn(D, D)}
    whitening["inverse_matrix"] = torch.linalg.inv(whitening["matrix"]).contiguous()
    save_file(whitening, folder / "activation_whitening.safetensors")
    carry(find_object(folder), GAUGE, tmp_path / "new")
    new = load_file(tmp_path / "new/activation_whitening.safetensors")
    x = torch.randn(3, D)
    white = (x - whitening["mean"]) @ whitening["matrix"]
    torch.testing.assert_close((GAUGE.apply(x) - new["mean"]) @ new["matrix"], white)
    back = white @ new["inverse_matrix"] + new["mean"]
    torch.testing.assert_close(back, GAUGE.apply(x), rtol=1e-3, atol=1e-3)


def test_a_hundred_thousand_unknown_keys_are_refused_in_one_sentence(tmp_path):
    save_file({f"k{i}": torch.zeros(1) for i in range(100_000)}, tmp_path / "many.safetensors")
    with pytest.raises(UnknownObjectError) as told:
        find_object(tmp_path / "many.safetensors")
    assert len(str(told.value)) < 300
