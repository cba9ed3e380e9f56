"""The proof that an architecture stays what it is under rotations, where its gains are flat.

Flat gains alone do not say so: a stream that passes a tanh, or is cut into parts that are
normalised apart, has signed permutations for its gauge and no rotations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from bmatch.architecture.wrappers import unwrapped
from bmatch.orthogonal import OrthogonalGauge


def stays_under_rotations(model_or_config: Any) -> bool:
    """Whether a model of this structure with flat gains computes the same after a rotation.

    Parameters
    ----------
    model_or_config
        A transformers model, its config, or the content of a ``config.json``.

    Returns
    -------
    bool
        Of a tiny model with weights at random, which is run twice. Under LayerNorm rotations are of
        those that fix the ones vector.
    """
    model = unwrapped(model_or_config, shards=True)
    config = getattr(model, "config", model)
    content = dict(config) if isinstance(config, Mapping) else config.to_dict()
    return _proved(json.dumps(content, sort_keys=True, default=str))


def require_rotations(model_or_config: Any) -> None:
    """Refuse an architecture that `stays_under_rotations` does not prove.

    Raises
    ------
    ValueError
        With its type.
    """
    if not stays_under_rotations(model_or_config):
        model = unwrapped(model_or_config, shards=True)
        config = getattr(model, "config", model)
        name = config["model_type"] if isinstance(config, Mapping) else config.model_type
        raise ValueError(
            f"a rotation of the residual stream changes what a {name} computes, even where the "
            "gains of its norms are flat: its gauge is not orthogonal"
        )


@cache
def _proved(written: str) -> bool:
    import torch
    from transformers import CONFIG_MAPPING

    from bmatch.architecture.derived import table_of
    from bmatch.architecture.deriving import derivation
    from bmatch.architecture.proof import TOLERANCE
    from bmatch.architecture.shrink import shrunken
    from bmatch.architecture.solve import outputs
    from bmatch.architecture.tiny import inputs_for

    content = json.loads(written)
    found = derivation(shrunken(CONFIG_MAPPING[content["model_type"]].from_dict(content)))
    tiny = found.tiny
    axes = table_of(found.axes, tiny.config, tiny, tiny)
    gauge = OrthogonalGauge.random(axes.dim, seed=0, fix_ones=axes.group != "signed_permutation")
    inputs = inputs_for(tiny)
    tensors: dict[str, Any] = {**dict(tiny.named_parameters()), **dict(tiny.named_buffers())}
    known = {name: rule for name in tensors if (rule := axes.rule(name)) is not None}
    with torch.no_grad():
        for name, rule in known.items():
            if any(axes.is_scale(signed, tensors[name].ndim) for _, signed in rule.axes):
                tensors[name].fill_(0.7)
        before = outputs(tiny(**inputs))
        for name in known:
            tensors[name].copy_(axes.transform(name, tensors[name], gauge))
        after = outputs(tiny(**inputs))
    return all(
        float((one - other).abs().max()) <= TOLERANCE * float(one.abs().max())
        for one, other in zip(before, after, strict=True)
    )
