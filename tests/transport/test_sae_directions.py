"""Directions of features from files of every format."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_sae import D, F, made

from bmatch.transport.sae_directions import sae_directions
from bmatch.transport.sae_formats import FORMATS

NAMES = [known.name for known in FORMATS]
# Which tensor has them, turned to [f, d]: by hand, as the packages' code reads them.
DECODERS = {
    "SAELens": lambda t: t["W_dec"],
    "temporal SAE": lambda t: t["D"],
    "Qwen Scope": lambda t: t["W_dec"].T,
    "circuit-tracer transcoder": lambda t: t["W_dec"],
    "Gemma Scope": lambda t: t["w_dec"],
    "Llama Scope": lambda t: t["decoder.weight"].T,
    "Llamascopium SAE": lambda t: t["W_D"],
    "Llamascopium crosscoder": lambda t: torch.cat(list(t["W_D"]), dim=1),
    "Llamascopium Lorsa": lambda t: t["W_O"],
    "Goodfire": lambda t: t["decoder_linear.weight"].T,
    "sparsify": lambda t: t["W_dec"],
    "dictionary_learning": lambda t: t["decoder.weight"].T,
    "dictionary_learning matryoshka": lambda t: t["W_dec"],
    "dictionary_learning crosscoder": lambda t: torch.cat(list(t["decoder.weight"]), dim=1),
}
ENCODERS = {
    "SAELens": lambda t: t["W_enc"].T,
    "temporal SAE": lambda t: t["E"].T,
    "Qwen Scope": lambda t: t["W_enc"],
    "circuit-tracer transcoder": lambda t: t["W_enc"],
    "Gemma Scope": lambda t: t["w_enc"].T,
    "Gemma Scope cross-layer transcoder": lambda t: t["w_enc"].T,
    "Llama Scope": lambda t: t["encoder.weight"],
    "Llamascopium SAE": lambda t: t["W_E"].T,
    "Llamascopium crosscoder": lambda t: torch.cat([place.T for place in t["W_E"]], dim=1),
    "Llamascopium Lorsa": lambda t: t["W_V"],
    "Llamascopium MOLT": lambda t: t["W_E"].T,
    "Goodfire": lambda t: t["encoder_linear.weight"],
    "sparsify": lambda t: t["encoder.weight"],
    "dictionary_learning": lambda t: t["encoder.weight"],
    "dictionary_learning matryoshka": lambda t: t["W_enc"].T,
    "dictionary_learning crosscoder": lambda t: torch.cat(
        [place.T for place in t["encoder.weight"]], dim=1
    ),
}


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
@pytest.mark.parametrize("side", ["decoder", "encoder"])
def test_a_row_a_feature(known, side, tmp_path):
    tensors = made(known)
    save_file(tensors, tmp_path / "sae.safetensors")
    row_of = (DECODERS if side == "decoder" else ENCODERS).get(known.name)
    if row_of is None:
        with pytest.raises(ValueError, match=f"has no tensor of one {side} direction a feature"):
            sae_directions(tmp_path / "sae.safetensors", side)
        return
    found = sae_directions(tmp_path, side)
    assert len(found) == F
    assert found.shape[1] % D == 0
    assert torch.equal(found, row_of(tensors))


def test_files_of_torch_and_numpy(tmp_path):
    tensors = made(FORMATS[NAMES.index("Gemma Scope")])
    np.savez(tmp_path / "params.npz", **{name: t.numpy() for name, t in tensors.items()})
    assert torch.equal(sae_directions(tmp_path / "params.npz"), tensors["w_dec"])
    inside = {"version": 1, "sae": made(FORMATS[NAMES.index("Llamascopium SAE")])}
    torch.save(inside, tmp_path / "sae.pt")
    assert torch.equal(sae_directions(tmp_path / "sae.pt", "encoder"), inside["sae"]["W_E"].T)


def test_folders_of_none_or_several(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        sae_directions(tmp_path / "none")
    save_file({"x": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no sparse dictionary that is known"):
        sae_directions(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_file(made(FORMATS[0]), tmp_path / name / "sae.safetensors")
    with pytest.raises(ValueError, match="holds 2 dictionaries: name the file or folder of one"):
        sae_directions(tmp_path)
    with pytest.raises(ValueError, match="side must be"):
        sae_directions(tmp_path / "a", "middle")
