"""Gauge sweeps: how often a claim about coordinates survives a change of gauge.

A model re-expressed in another gauge computes the same function. What was true of it is true of the
new one, once it is carried there the right way: a claim that no way of carrying saves was a claim
about the gauge. Source: J. Sweeney, "Signed-Permutation Coordinate Transport for RMSNorm
Transformers", arXiv 2606.31963, on gauge-sweep audits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from bmatch.architecture import residual_axes
from bmatch.architecture.wrappers import unwrapped
from bmatch.audit.claims import WAYS, Claim, Way
from bmatch.audit.recipes import Recipe
from bmatch.audit.shares import Share
from bmatch.gauge import SignedPermutation
from bmatch.groups import Group
from bmatch.jobs.progress import Progress, silent
from bmatch.transport.weights import state_dict

Kind: TypeAlias = Literal["invariant", "sign-blind", "signed", "not covariant"]

ClaimOf: TypeAlias = "Recipe | Callable[[Any], Any]"
"""From a model to a `Claim`, to coordinates, or to coordinates and signs."""

CARRY: Mapping[Kind, str] = {
    "invariant": "Nothing needs to be carried: it names no coordinate of the stream.",
    "sign-blind": "Permute the indices, and never sign what goes with them.",
    "signed": "Carry index and sign together: permute the indices, and multiply signs and signed "
    "weights by those of the gauge.",
    "not covariant": "No carried list is right, since other coordinates are chosen where signs "
    "flip. Carry the whole vector of scores and choose again, or choose by magnitude and keep "
    "(index, sign).",
}
"""What to carry in place of a bare list of numbers, by kind of claim."""

COVARIANT = 0.98
"""Share of items from which on a claim counts as surviving: rounding may exchange items that tie
with the first that is left out."""


@dataclass(frozen=True)
class Sweep:
    """How a claim fares in random gauges.

    Attributes
    ----------
    kind : str
        ``invariant``: it survives as it stands. ``sign-blind``: once its indices are permuted.
        ``signed``: once its signs are carried too. ``not covariant``: in no way.
    carry : str
        What to carry instead of the bare list.
    items : dict of str to Share
        Of all items in all gauges, those that the re-expressed model gives as well, by way:
        ``raw``, ``permutation`` and ``signed``.
    whole : dict of str to Share
        Of all gauges, those in which every item survives.
    by_gauge : dict of str to tuple of float
        Share of items in each gauge.
    length : int
        Items of the claim.
    dim : int
        Coordinates of the stream.
    group : str
        That the gauges are drawn from: the model's own.
    positive : float
        Share of positive signs among all gauges' coordinates.
    seed : int
    one_model : bool
        Whether scores were carried in place of the model, as those that are given always are.
    """

    kind: Kind
    carry: str
    items: dict[Way, Share]
    whole: dict[Way, Share]
    by_gauge: dict[Way, tuple[float, ...]]
    length: int
    dim: int
    group: Group
    positive: float
    seed: int
    one_model: bool


def gauge_sweep(
    claim: ClaimOf,
    model: Any,
    num_gauges: int = 20,
    seed: int = 0,
    *,
    one_model: bool = False,
    rtol: float = 1e-3,
    progress: Progress = silent,
) -> Sweep:
    """Ask whether an index-level claim survives a change of gauge.

    Parameters
    ----------
    claim : Recipe, or callable
        From a model to the claim about it: a `Claim`, int [n] of coordinates, or a pair of these
        and signs [n]. It is called on the model and on every re-expressed one.
    model
        A transformers model in float32 and in eval mode. Left as it is.
    num_gauges : int
        Random gauges of the model's own group.
    seed : int
        Of the gauges.
    one_model : bool
        For recipes: measure once, and carry the scores in place of the model. A stream is carried
        exactly as its gauge says (steering ``g.M`` with ``w`` is steering ``M`` with ``g^-1 w``),
        so the answer is the same but for rounding, at the price of one measurement.
    rtol : float
        By how much weights may differ, as a share of the largest.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).

    Returns
    -------
    Sweep

    Raises
    ------
    ValueError
        If the model is not in float32 or in training mode, the architecture is unknown, the claim
        names coordinates that are not there or has no items, `num_gauges` is below 1, or
        `one_model` is asked for what is no recipe.

    Examples
    --------
    ``gauge_sweep(Recipe("activation", sites=[15], batches=batches, items="sign"), model).kind``
    """
    return gauge_sweeps(
        {"": claim}, model, num_gauges, seed, one_model=one_model, rtol=rtol, progress=progress
    )[""]


def gauge_sweeps(
    claims: Mapping[str, ClaimOf],
    model: Any,
    num_gauges: int = 20,
    seed: int = 0,
    *,
    one_model: bool = False,
    rtol: float = 1e-3,
    progress: Progress = silent,
) -> dict[str, Sweep]:
    """As `gauge_sweep`, of several claims by name in the same gauges."""
    if num_gauges < 1:
        raise ValueError(f"num_gauges must be at least 1, got {num_gauges}")
    plain = unwrapped(model)
    _require_exact(plain)
    axes = residual_axes(plain)
    generator = np.random.default_rng(seed)
    gauges = [
        SignedPermutation.random(axes.dim, axes.group, seed=generator) for _ in range(num_gauges)
    ]
    for claim in claims.values():
        if isinstance(claim, Recipe) and claim.given and len(claim.measure) != axes.dim:
            raise ValueError(
                f"scores of {len(claim.measure)} coordinates were given, and the stream has "
                f"{axes.dim}"
            )
    carried = {name for name, claim in claims.items() if _carries(claim, one_model)}
    rows: dict[str, dict[Way, list[np.ndarray[Any, Any]]]] = {}
    at_home: dict[str, Claim] = {}
    for gauge, found in _answers(claims, carried, plain, gauges, progress):
        for name, there in found.items():
            if gauge is None:
                at_home[name] = there
                _require_width(name, there, axes.dim)
                rows[name] = {way: [] for way in WAYS}
                continue
            for way in WAYS:
                rows[name][way].append(at_home[name].carried(gauge, way).found_in(there, rtol))
    positive = float(np.mean([gauge.sign == 1 for gauge in gauges]))
    result = {}
    for name, kept in rows.items():
        items = {
            way: Share(int(np.sum(found)), sum(map(len, found))) for way, found in kept.items()
        }
        kind = kind_of(items)
        result[name] = Sweep(
            kind,
            CARRY[kind],
            items,
            {way: Share(sum(map(all, found)), len(found)) for way, found in kept.items()},
            {way: tuple(float(np.mean(one)) for one in found) for way, found in kept.items()},
            len(at_home[name]),
            axes.dim,
            axes.group,
            positive,
            seed,
            name in carried,
        )
    return result


def kind_of(items: Mapping[Way, Share]) -> Kind:
    """The kind of a claim by what carrying makes of it."""
    kinds: tuple[tuple[Way, Kind], ...] = (
        *(("raw", "invariant"), ("permutation", "sign-blind"), ("signed", "signed")),
    )
    return next((kind for way, kind in kinds if items[way].rate >= COVARIANT), "not covariant")


def _carries(claim: ClaimOf, one_model: bool) -> bool:
    """Whether scores are carried in place of the model: asked for, or all there is."""
    if isinstance(claim, Recipe):
        return one_model or claim.given
    if one_model:
        raise ValueError(
            "one_model needs recipes, whose scores can be carried; a function of a model is asked "
            "of re-expressed models"
        )
    return False


def _answers(
    claims: Mapping[str, ClaimOf],
    carried: set[str],
    model: Any,
    gauges: list[SignedPermutation],
    progress: Progress,
) -> Iterator[tuple[SignedPermutation | None, dict[str, Claim]]]:
    """What the claims come to: first at home (None), then in each gauge."""
    recipes = {n: c for n, c in claims.items() if n in carried and isinstance(c, Recipe)}
    asked = {name: claim for name, claim in claims.items() if name not in carried}
    scores = {name: recipe.scores(model) for name, recipe in recipes.items()}
    found = {name: recipe.chosen(scores[name]) for name, recipe in recipes.items()}
    yield None, found | {name: Claim.of(claim(model)) for name, claim in asked.items()}
    twin = copy.deepcopy(model) if asked else None
    weights = model.state_dict()
    for gauge in progress(gauges, "Gauges"):
        found = {
            name: recipe.chosen(recipe.carried(scores[name], gauge))
            for name, recipe in recipes.items()
        }
        if twin is not None:
            twin.load_state_dict(state_dict(weights, gauge.to(model.device), model))
        yield gauge, found | {name: Claim.of(claim(twin)) for name, claim in asked.items()}


def _require_exact(model: Any) -> None:
    if model.training:
        raise ValueError("the model is in training mode, where dropout is at work: model.eval()")
    for name, weight in model.named_parameters():
        if weight.dtype != torch.float32:
            raise ValueError(
                f"{name} is {weight.dtype}, whose rounding differs from gauge to gauge: audit "
                "model.float()"
            )


def _require_width(name: str, claim: Claim, dim: int) -> None:
    if claim.index.min() < 0 or claim.index.max() >= dim:
        odd = int(claim.index.min() if claim.index.min() < 0 else claim.index.max())
        told = f"the claim {name}" if name else "the claim"
        raise ValueError(f"{told} names coordinate {odd}, and the stream has {dim}")
