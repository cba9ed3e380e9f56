"""What PEFT makes that a gauge does not carry, by the names of its configuration, and why.

Read in PEFT 0.21.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BLOCKS = "its tensors belong to blocks of neighbouring coordinates, which permutations break"
_PLACES = "its values belong to places or frequencies that are numbered along the coordinates"
_SHARED = (
    "modules that read the stream and others share its projections, which are random numbers by "
    "the number of a coordinate"
)
_SPECTRAL = "its tensors belong to a decomposition of the base's weights, of free signs and order"
_ENTRYWISE = "it multiplies weights entry by entry, and which factor takes the signs is not tabled"
_PROMPTS = "where its prompts enter the stream is not tabled"
_SHAPES = "along which axes its tensors lie in the stream is not tabled"

TUNERS: dict[str, str] = {
    **dict.fromkeys(
        ("BOFT", "BONE", "C3A", "GRALORA", "LOKR", "MISS", "OFT", "POLY", "ROAD", "VBLORA"), _BLOCKS
    ),
    **dict.fromkeys(("FOURIERFT", "SHIRA", "SUPERTUNING", "UNILORA", "WAVEFT"), _PLACES),
    **dict.fromkeys(("PVERA", "RANDLORA", "VERA"), _SHARED),
    **dict.fromkeys(("ADAMSS", "FROD", "OSF", "PSOFT", "TINYLORA"), _SPECTRAL),
    **dict.fromkeys(("GLORA", "HIRA", "LOHA"), _ENTRYWISE),
    **dict.fromkeys(("ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING"), _PROMPTS),
    **dict.fromkeys(("BEFT", "DELORA", "HRA", "LILY", "PEANUT"), _SHAPES),
    "DEFT": "a ReLU sees the signs of the coordinates that it projects on",
    "SHADOW": "it runs a network of its own beside the stream",
    "XLORA": "it mixes adapters of other folders by what it reads in the stream",
}
"""Kinds of adapters, as ``peft_type`` names them."""

FIELDS: dict[str, str] = {
    "arrow_config": "it routes between adapters of other folders",
    "layer_replication": "its layers are not those of the base model's config",
    "monteclora_config": "along which axes its samplers lie in the stream is not tabled",
    "use_bdlora": _BLOCKS,
    "use_qalora": "it averages neighbouring coordinates in groups",
}
"""Fields of a LoRA's configuration, where they are set."""

STARTS: dict[str, str] = {
    "corda": "covariances of its inputs",
    "loftq": "weights rounded in blocks",
    "olora": "a QR decomposition, which begins with the first coordinates",
    "pissa_niter": "a decomposition by random numbers",
}
"""Values of ``init_lora_weights`` for which PEFT, when it loads an adapter, takes something from
the base's weights that does not move with them. What ``pissa`` takes does: singular values and
vectors. Others take nothing, or did so once."""


def require_carried(config: Mapping[str, Any]) -> None:
    """Refuse a configuration that has a reason here.

    Raises
    ------
    ValueError
        With the name and the reason.
    """
    peft_type = _plain(config.get("peft_type"))
    if peft_type in TUNERS:
        raise ValueError(f"adapters of peft_type {peft_type} are not carried: {TUNERS[peft_type]}")
    for name, reason in FIELDS.items():
        if config.get(name):
            raise ValueError(f"adapters with {name} are not carried: {reason}")
    start = str(_plain(config.get("init_lora_weights", True)))
    taken = next((why for name, why in STARTS.items() if start.startswith(name)), None)
    if taken:
        raise ValueError(
            f"init_lora_weights is {start!r}: when PEFT loads this adapter it takes from the base "
            f"what came from {taken}, and that does not move with the stream; save it with "
            "path_initial_model_for_weight_conversion, as a LoRA of the unchanged base"
        )


def _plain(value: Any) -> Any:
    """Of an enumeration the value."""
    return getattr(value, "value", value)
