"""The directions of a dictionary's features, from files of any format that is carried."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from bmatch.transport.sae import dictionaries, inside, shapes_of

Side: TypeAlias = Literal["decoder", "encoder"]

_STREAM = {"decoder": "o", "encoder": "d"}  # letters of formats


def sae_directions(path: str | os.PathLike[str], side: Side = "decoder") -> torch.Tensor:
    """What each feature of a dictionary writes, or reads.

    Parameters
    ----------
    path : path
        A file or folder of a sparse autoencoder, transcoder or crosscoder, of any format that
        `bmatch.transport.sae` knows.
    side : {"decoder", "encoder"}
        The directions that features write, or those that they are read along.

    Returns
    -------
    Tensor [f, d]
        A row a feature, in the dtype of the file; of a crosscoder, [f, layers * d].

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If it holds no dictionary, several, or one whose features have no single direction on this
        side.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if side not in _STREAM:
        raise ValueError(f"side must be 'decoder' or 'encoder', got {side!r:.60}")
    holding = list(dictionaries(path))
    if len(holding) != 1:
        told = f"{len(holding)} dictionaries" if holding else "no sparse dictionary that is known"
        raise ValueError(f"{path} holds {told}: name the file or folder of one")
    container, known = holding[0]
    shapes = shapes_of(container)
    for template in known.tensors:  # those of most formats begin with what is looked for
        words = known.words(template) or ()
        if sorted(words) in (sorted(("f", _STREAM[side])), sorted(("f", "h", _STREAM[side]))):
            for name in shapes:
                if known.words(name) == words:
                    return _feature_rows(container.read(inside(container) + name), words)
    raise ValueError(
        f"{container.path} ({known.name}) has no tensor of one {side} direction a feature: pass "
        "them to bmatch.match_features as a matrix [features, d]"
    )


def _feature_rows(tensor: Any, words: tuple[str, ...]) -> torch.Tensor:
    """[f, d], the places of a crosscoder one after the other."""
    order = sorted(range(len(words)), key=lambda axis: "fhdo".index(words[axis]))
    return torch.as_tensor(tensor).permute(order).flatten(1)
