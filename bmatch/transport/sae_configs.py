"""What the configs of sparse autoencoders tell: width, hooks, model, treatment of activations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILES = ("cfg.json", "config.json", "hyperparams.json", "config.yaml", "conf.yaml")

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "width": ("d_in", "d_model", "activation_dim", "d_mlp_in", "dimin"),
    "features": ("d_sae", "dict_size", "num_latents", "d_hidden"),
    "hook_in": (
        *("hook_name", "hf_hook_name", "hook_point", "hook_point_in", "hf_hook_point_in"),
        *("feature_input_hook", "hookpoint", "submodule_name", "hook_points", "hook_points_in"),
    ),
    "hook_out": (
        *("hook_name_out", "hf_hook_name_out", "hook_point_out", "hf_hook_point_out"),
        *("feature_output_hook", "hook_points_out"),
    ),
    "model": ("model_name", "lm_name", "model_name_or_path"),
    "layer": ("hook_layer", "layer"),
    "normalisation": ("normalize_activations", "norm_activation"),
    "architecture": ("architecture", "dict_class", "sae_type", "model_kind"),
}
"""Our words for what packages call each its own way, the first that is found."""

SEVERAL = ", "
"""Between the hooks of a dictionary that has several."""


@dataclass(frozen=True)
class SaeConfig:
    """What is told, each None where nothing is.

    Attributes
    ----------
    path : Path or None
        The file.
    width, features : int or None
    hook_in, hook_out, model, layer, normalisation, architecture : str or None
    centred : bool
        Whether the model's writing weights were centred before activations were taken.
    """

    path: Path | None = None
    width: int | None = None
    features: int | None = None
    hook_in: str | None = None
    hook_out: str | None = None
    model: str | None = None
    layer: str | None = None
    normalisation: str | None = None
    architecture: str | None = None
    centred: bool = False


def read_config(folder: Path) -> SaeConfig:
    """The config in a folder, of the first name that packages use.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    for name in _FILES:
        path = folder / name
        if path.is_file():
            return _facts(path, _content(path))
    return SaeConfig()


def _content(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            found = json.loads(text)
        else:
            import yaml

            found = yaml.safe_load(text)
    except Exception as error:  # YAML's errors have a tree of their own
        raise ValueError(f"{path} is damaged ({error})") from None
    return found if isinstance(found, Mapping) else {}


def _facts(path: Path, content: Mapping[str, Any]) -> SaeConfig:
    nested = [
        content.get(key) for key in ("metadata", "trainer", "sae", "sae_kwargs", "buffer", "llm")
    ]
    levels = [content, *(level for level in nested if isinstance(level, Mapping))]
    found: dict[str, Any] = {}
    for ours, theirs in _SYNONYMS.items():
        values = (level[key] for key in theirs for level in levels if level.get(key) is not None)
        value = next(values, None)
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            value = SEVERAL.join(dict.fromkeys(value))
        number = isinstance(value, int) and ours in ("width", "features")
        if value is not None and (number or isinstance(value, (str, int))):
            found[ours] = value if ours in ("width", "features") else str(value)
    for key in ("width", "features"):
        if not isinstance(found.get(key, 0), int):
            del found[key]
    processing = [level.get("model_from_pretrained_kwargs") for level in levels]
    centred = any(p.get("center_writing_weights") for p in processing if isinstance(p, Mapping))
    return SaeConfig(path, **found, centred=centred)
