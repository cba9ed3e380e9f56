"""Files of a training run beside weights and moments: what stays as it is, what is in slices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bmatch.files.opening import indexed
from bmatch.models.checkpoint import INDEX, SINGLE, read_json

_KEPT = re.compile(  # of transformers' Trainer, and of accelerate's save_state
    r"scheduler(_\d+)?\.(pt|bin)|scaler\.pt|trainer_state\.json|training_args\.bin"
    r"|rng_state(_\d+)?\.pth|random_states_\d+\.pkl|sampler(_\d+)?\.bin|dl_state_dict(_\d+)?\.bin"
    r"|common\.pt"  # of Megatron-core: options, schedulers, counters
)
_SLICED = (
    (
        re.compile(r"global_step\d+|(bf16_)?zero_pp_rank_.*"),
        "DeepSpeed's, slices of all parameters in one row: make the universal form of it "
        "(ds_to_universal.py)",
    ),
    (
        re.compile(r"(optimizer|pytorch_model_fsdp).*_rank\d+\.bin|rank\d+-of-\d+-.*"),
        "the shard of one process: save the full state, or with torch.distributed.checkpoint",
    ),
)
_BUCKETS = re.compile(r"(chained_\d+\.)?optimizer\.distributed\.")

STATE = re.compile(r"optimizer(_\d+)?\.(pt|bin)")
"""Files with an optimizer's whole state."""

UNIVERSAL = "zero"
"""What holds a folder for each parameter in DeepSpeed's universal form."""

FULL = "pytorch_model_fsdp.bin"
"""All weights that FSDP has put together, as accelerate writes them; the Trainer besides others."""


def is_full(folder: Path) -> bool:
    """Whether a folder has weights from FSDP alone, and none as transformers writes them."""
    others = any((folder / name).is_file() for name in (SINGLE, INDEX))
    return (folder / FULL).is_file() and not others


def is_sharded(folder: Path) -> bool:
    """Whether a folder holds one of these, such weights, or DeepSpeed's universal form."""
    return bool(indexed(folder)) or (folder / UNIVERSAL).is_dir() or is_full(folder)


def config_in(folder: Path) -> Mapping[str, Any]:
    """The config of the model that such a folder is of.

    Raises
    ------
    ValueError
        If there is none in it.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(
            f"{folder} has no config.json, and does not tell without what model it is of: put that "
            "of the model in it, as transformers writes it, or name it (bmatch transport --model)"
        )
    return read_json(file)


def weight_name(key: str) -> str:
    """What an entry of `torch.distributed.checkpoint` would be called as a weight."""
    return key.removeprefix("model/")


def is_kept(path: Path) -> bool:
    """Whether a file holds no coordinates, by its name: schedulers, random states, logs."""
    return _KEPT.fullmatch(path.name) is not None


def require_whole(folder: Path) -> None:
    """Refuse a folder whose state lies in slices.

    Raises
    ------
    ValueError
        With the first of them, and what to do.
    """
    for path in sorted(folder.iterdir()):
        for known, told in _SLICED:
            if known.fullmatch(path.name):
                raise ValueError(f"{path} is {told}")


def require_named(path: Path, names: Iterable[str]) -> None:
    """Refuse an optimizer's state that Megatron-core keeps in buckets of many parameters.

    Raises
    ------
    ValueError
        With the first of them, and what to do.
    """
    bucket = next((name for name in names if _BUCKETS.match(name)), None)
    if bucket is not None:
        raise ValueError(
            f"{path}: {bucket} is Megatron-core's, buckets of many parameters in one row "
            "(dp_reshardable, dp_zero_gather_scatter): save with the sharding of optimizers that "
            "is called fully_reshardable (--dist-ckpt-optim-fully-reshardable)"
        )
