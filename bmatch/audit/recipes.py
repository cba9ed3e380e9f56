"""Claims as recipes: what is measured, which coordinates are chosen, and what is told of them.

A recipe can be followed again in any gauge, which a list of numbers cannot. As a file it is a JSON
object; in place of a measure it may hold the scores themselves, as an attribution list of all
coordinates has them (`transport.neuron_lists`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from bmatch.audit.claims import Claim
from bmatch.audit.measures import MEASURES, Scores, Tokens
from bmatch.gauge import SignedPermutation
from bmatch.models.activations import Reader, counted_tokens, pair_sites
from bmatch.transport.neurons import INDEX, WEIGHT, attributions

By = Literal["magnitude", "value"]
Items = Literal["index", "sign", "weight"]

_MEASURED = {"measure", "site", "top", "by", "items"}
_LISTED = {INDEX, WEIGHT, "signed", "top", "by", "items"}


@dataclass(frozen=True, eq=False)
class Recipe:
    """The coordinates of largest score, chosen anew in every gauge.

    Parameters
    ----------
    measure : str or float [D]
        ``activation``, ``gradient``, ``gradient_x_activation``, ``ablation`` or, of pairs of
        coordinates, ``correlation`` (see `bmatch.audit.measures`); or scores of all coordinates
        that were measured elsewhere.
    top : int
        How many are chosen, at each site.
    by : {"magnitude", "value"}
        Whether the largest magnitudes are chosen, or the largest signed values.
    items : {"index", "sign", "weight"}
        What is told: coordinates, coordinates with the signs of their scores, or with the scores.
    sites : sequence of int
        After how many blocks; -1 is the end. With more than one, items tell their site.
    batches : sequence of int64 [B, T] or mappings with input_ids and attention_mask
        What is read.
    signed : bool, optional
        Whether given scores turn with their coordinates. Measures know.

    Raises
    ------
    ValueError
        If a word is unknown, `top` is not positive, or scores were given that are not finite
        numbers [D] or do not tell whether they turn.
    """

    measure: Any
    top: int = 10
    by: By = "magnitude"
    items: Items = "index"
    sites: Sequence[int] = (0,)
    batches: Sequence[Tokens] = ()
    signed: bool | None = None

    def __post_init__(self) -> None:
        if isinstance(self.measure, str):
            _require_word("measure", self.measure, MEASURES)
            object.__setattr__(self, "signed", MEASURES[self.measure].signed)
        else:
            scores = np.asarray(self.measure, np.float64)
            if scores.ndim != 1 or not scores.size or not np.all(np.isfinite(scores)):
                raise ValueError("given scores must be finite numbers, one a coordinate")
            if not isinstance(self.signed, bool):
                raise ValueError(
                    "signed must tell whether given scores turn with coordinates, True or False; "
                    f"got {self.signed!r}"
                )
            object.__setattr__(self, "measure", scores)
        _require_word("by", self.by, get_args(By))
        _require_word("items", self.items, get_args(Items))
        if isinstance(self.top, bool) or not isinstance(self.top, int) or self.top < 1:
            raise ValueError(f"top must be a positive integer, got {self.top!r}")
        if not self.sites:
            raise ValueError("a recipe needs at least one site")

    def __call__(self, model: Any) -> Claim:
        """The claim about a model."""
        return self.chosen(self.scores(model))

    @property
    def given(self) -> bool:
        """Whether the scores were given, and are not measured."""
        return not isinstance(self.measure, str)

    def scores(self, model: Any) -> dict[int, Scores]:
        """Scores at each site, float64 [D], of pairs [D, D]; NaN where nothing was measured.

        Raises
        ------
        ValueError
            If no token counts, or a site is out of range.
        """
        if self.given:
            return {self.sites[0]: self.measure}
        if not any(counted_tokens(batch).any() for batch in self.batches):
            raise ValueError(
                f"{self.measure} is measured on tokens, and in the recipe's batches none counts "
                "(the first of each sequence does not)"
            )
        reader, measure = Reader.of(model), MEASURES[self.measure]
        depth = len(reader.blocks)
        return {
            pair.source: measure.scores(reader, self.batches, pair.source, self.top)
            for pair in pair_sites(depth, depth, self.sites)
        }

    def carried(self, scores: Mapping[int, Scores], gauge: SignedPermutation) -> dict[int, Scores]:
        """What the scores are in the coordinates that a gauge leads to."""
        moved = {}
        for site, values in scores.items():
            for axis in range(values.ndim):
                values = attributions(values, gauge, signed=bool(self.signed), axis=axis)
            moved[site] = values
        return moved

    def chosen(self, scores: Mapping[int, Scores]) -> Claim:
        """The items of largest score."""
        index: list[Any] = []
        values: list[float] = []
        sites: list[Hashable] = []
        for site, found in scores.items():
            key = np.abs(found) if self.by == "magnitude" else found
            if found.ndim == 2:  # each pair once
                key = np.where(np.tri(len(key), dtype=bool), np.nan, key)
            flat = np.where(np.isnan(key), -np.inf, key).ravel()
            order = np.argsort(-flat, kind="stable")[: self.top]
            order = order[flat[order] > -np.inf]
            index += np.stack(np.unravel_index(order, found.shape), axis=1).tolist()
            values += found.ravel()[order].tolist()
            sites += [site] * len(order)
        return Claim(
            index,
            np.where(np.asarray(values) < 0, -1, 1) if self.items == "sign" else None,
            values if self.items == "weight" else None,
            signed=bool(self.signed),
            site=sites if len(scores) > 1 else None,
        )


def read_claim(path: str | os.PathLike[str], batches: Sequence[Tokens] = ()) -> Recipe:
    """The recipe in a JSON file.

    Parameters
    ----------
    path : path
        ``{"measure": "activation", "site": 15, "top": 10, "by": "magnitude", "items": "sign"}``,
        where ``site`` may be a list; or scores of all coordinates in place of measure and site:
        ``{"index": [0, 1, ...], "weight": [0.3, ...], "signed": true, "top": 10, ...}``.
    batches : sequence of tokens
        What a measure reads.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, has unknown words, or lists some coordinates only: what would be chosen in
        another gauge, such a list does not tell.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    if not isinstance(content, dict) or ("measure" in content) == (INDEX in content):
        raise ValueError(
            f"{path} is no claim: it needs either a measure ({', '.join(MEASURES)}), or the "
            f"columns {INDEX} and {WEIGHT} of all coordinates"
        )
    listed = INDEX in content
    unknown = sorted(content.keys() - (_LISTED if listed else _MEASURED))
    if unknown:
        raise ValueError(f"{path} has words that a claim has not: {', '.join(unknown)}")
    options = {name: content[name] for name in ("top", "by", "items") if name in content}
    try:
        if listed:
            scores = _scores(content)
            return Recipe(scores, signed=content.get("signed"), **options)
        return Recipe(
            content["measure"], sites=_sites(content.get("site")), batches=batches, **options
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _scores(content: Mapping[str, Any]) -> Scores:
    try:
        index = np.asarray(content[INDEX])
        weight = np.asarray(content.get(WEIGHT), np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{INDEX} and {WEIGHT} must be lists of numbers") from None
    if index.shape != weight.shape or not np.array_equal(np.sort(index), np.arange(index.size)):
        raise ValueError(
            f"{INDEX} and {WEIGHT} must be those of all coordinates: what would be chosen in "
            "another gauge, a list of some does not tell"
        )
    scores = np.empty(len(index))
    scores[index] = weight
    return scores


def _sites(given: Any) -> tuple[int, ...]:
    sites = given if isinstance(given, list) else [given]
    if not sites or any(isinstance(site, bool) or not isinstance(site, int) for site in sites):
        raise ValueError(f"site must be a number of blocks, or a list of them; got {given!r}")
    return tuple(sites)


def _require_word(name: str, word: Any, known: Any) -> None:
    if not isinstance(word, str) or word not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {word!r}")
