"""Checkpoints of a config alone: names, shapes and types of all weights, and holes for numbers.

Files have the sizes of those with weights in them, and take no room on a disk that knows holes.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch

from bmatch.files.mapped import DTYPES
from bmatch.files.safetensors_copy import framed
from bmatch.models.checkpoint import INDEX, SINGLE, read_json

SHARD = 5 * 10**9
"""Bytes of a shard, where no index tells: transformers' own, before version 5."""
_NAMES = {torch_name: name for name, torch_name in DTYPES.items()}


def write_hollow(
    folder: Path,
    config: Mapping[str, Any],
    homes: Mapping[str, str] | None = None,
    shard: int = SHARD,
) -> None:
    """Write the shards of a model, and their index, into a folder.

    Parameters
    ----------
    folder : Path
    config : mapping
        Content of ``config.json``.
    homes : mapping of str to str, optional
        The file of each tensor, as an index has it. Default: in turn, as many as a file takes.
    shard : int
        Bytes of a file; of a larger tensor a file of its own.

    Raises
    ------
    ValueError
        If transformers has no language model of this type, or an index lists other tensors.
    """
    tensors, dtype = _tensors(config)
    size = torch.empty((), dtype=dtype).itemsize
    if homes is None:
        homes = _in_turn({name: prod(shape) * size for name, shape in tensors.items()}, shard)
    elif homes.keys() != tensors.keys():
        odd = sorted(homes.keys() ^ tensors.keys())
        raise ValueError(
            f"{folder}: transformers makes other tensors of its config than its index lists, "
            f"{', '.join(odd[:3])} among them: without its weights there is nothing to go by"
        )
    for file_name in sorted(set(homes.values())):
        entries, at = {}, 0
        for name in (name for name, home in homes.items() if home == file_name):
            end = at + prod(tensors[name]) * size
            kind = _NAMES[str(dtype).removeprefix("torch.")]
            entries[name] = {"dtype": kind, "shape": tensors[name], "data_offsets": [at, end]}
            at = end
        with open(folder / file_name, "wb") as file:
            file.write(framed({"__metadata__": {"format": "pt"}, **entries}))
            file.truncate(file.tell() + at)
    if set(homes.values()) != {SINGLE}:
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict(homes)}))


@contextmanager
def whole_or_hollow(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A checkpoint's folder; where its weights are not there, a stand-in with holes for them.

    Raises
    ------
    ValueError
        As `write_hollow`.
    """
    folder = Path(folder)
    config = folder / "config.json"
    index = folder / INDEX
    homes: dict[str, str] | None = read_json(index).get("weight_map") if index.is_file() else None
    shards = {SINGLE} if homes is None else set(homes.values())
    there = any((folder / shard).exists() for shard in {SINGLE, *shards})
    if there or not config.is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="bmatch-") as made:
        stand_in = Path(made) / folder.resolve().name
        stand_in.mkdir()
        write_hollow(stand_in, read_json(config), homes)
        for path in folder.iterdir():
            if path.name != INDEX:
                (stand_in / path.name).symlink_to(path.resolve())
        yield stand_in


def _tensors(config: Mapping[str, Any]) -> tuple[dict[str, tuple[int, ...]], torch.dtype]:
    """Shapes of what a model's files hold by name, tied tensors once, and their type."""
    import transformers

    kind = config.get("model_type")
    if kind not in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ValueError(
            f"transformers makes no language model of the type {kind!r} from a config alone"
        )
    build: Any = transformers.AutoModelForCausalLM.from_config
    full = transformers.AutoConfig.for_model(**config)
    dtype = full.dtype if isinstance(full.dtype, torch.dtype) else torch.float32
    with torch.device("meta"):
        model = build(full)
    kept = model.state_dict().keys()
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: tuple(t.shape) for name, t in named if name in kept}, dtype


def _in_turn(sizes: Mapping[str, int], shard: int) -> dict[str, str]:
    numbers: dict[str, int] = {}
    number, room = 0, 0
    for name, size in sizes.items():
        if size > room:
            number, room = number + 1, shard
        numbers[name] = number
        room -= size
    if number == 1:
        return dict.fromkeys(sizes, SINGLE)
    return {name: f"model-{k:05d}-of-{number:05d}.safetensors" for name, k in numbers.items()}
