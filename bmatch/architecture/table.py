"""From the type of a model to its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.cached import cached
from bmatch.architecture.known import is_known
from bmatch.architecture.stored import Stored, shipped, stored
from bmatch.architecture.wrappers import unwrapped


def residual_axes(model_or_config: Any) -> ResidualAxes:
    """The table of a model: how its tensors carry the residual stream, and other spaces.

    Parameters
    ----------
    model_or_config
        A transformers model, its config, or the content of a ``config.json``; what that leaves out
        is as transformers' config class has it.

    Returns
    -------
    ResidualAxes
        Of what a model computes: where somebody has changed a part of it (a module, a method of
        one, a hook), or code from elsewhere computes it, the table is derived from the model, and
        not that of its config.

    Raises
    ------
    ValueError
        If the architecture is not known and no table can be derived for it, the config is
        damaged, or the model is wrapped in something that hides its weights; if it was changed, and
        is large, or has no gauge any more.

    Notes
    -----
    Tables of the most common types come with bmatch, and hold for configs of the structure that
    they were derived for. Others are derived by one traced run of a tiny model (`derive`), and
    kept in the user's cache.
    """
    model = unwrapped(model_or_config, shards=True)
    if hasattr(model, "_from_config"):  # a model of transformers
        from bmatch.architecture.derived import changed_axes  # imports torch

        changed = changed_axes(model)
        if changed is not None:
            return changed
    config = getattr(model, "config", model)
    if not isinstance(config, Mapping):
        config = config.to_dict()
    known = shipped_for(config)
    return cached(config, _derived) if known is None else known.table(config)


def shipped_for(config: Mapping[str, Any]) -> Stored | None:
    """The table that comes with bmatch for a config; None if one has to be derived."""
    model_type: Any = config.get("model_type")
    known = stored(model_type) if isinstance(model_type, str) else None
    return known if known is not None and known.fits(config) else None


def _derived(config: Mapping[str, Any]) -> ResidualAxes:
    model_type = config.get("model_type")
    if model_type is None:
        raise ValueError(
            "the config has no model_type: it must be the config.json that transformers writes"
        )
    if not is_known(model_type):
        raise ValueError(
            f"unknown architecture {model_type!r}: bmatch has tables for {len(shipped())} types, "
            "and derives them for those of the installed transformers"
        )
    from bmatch.architecture.derived import derived_axes  # imports torch

    return derived_axes(config)
