"""Adapters of a model: LoRA and what else PEFT trains beside weights, and llama.cpp's LoRA files.

An adapter belongs to weights, and moves as they do: which of its axes lie in the stream is read
off the base model's table. ``adapter_config.json`` and the adapter's other files stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bmatch.architecture import residual_axes
from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.rotating import require_rotations
from bmatch.files.containers import SUFFIXES, open_container
from bmatch.groups import Gauge
from bmatch.transport.lora_gguf import gguf_moves, is_adapter
from bmatch.transport.objects import Part, StreamObject
from bmatch.transport.peft_keys import PROMPTS, TENSORS, moves
from bmatch.transport.peft_refused import require_carried

KIND = "adapter"
CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_WITHOUT_COORDINATES = ("training_args.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth")
"""Other files of a Trainer's checkpoint that hold no tensors of the stream."""


def adapter(
    tensors: Mapping[str, Any], config: Any, gauge: Gauge, model_or_config: Any
) -> dict[str, Any]:
    """Carry the tensors of a PEFT adapter in memory.

    Parameters
    ----------
    tensors : mapping of str to array or tensor
        As ``peft.get_peft_model_state_dict`` gives them, or ``adapter_model.safetensors``.
    config : PeftConfig or mapping
        The adapter's, or the content of ``adapter_config.json``.
    gauge : SignedPermutation or OrthogonalGauge
        From the coordinates of the base model that it was trained on to those wanted.
    model_or_config
        That base model, its config, or the content of its ``config.json``.

    Returns
    -------
    dict of str to array or tensor
        New tensors where they moved, the same where not; for the base model in those coordinates.

    Raises
    ------
    ValueError
        If the kind of adapter, a tensor or the base model is not known, widths differ, or the gauge
        is of a larger group than the base model's.
    """
    content = config if isinstance(config, Mapping) else config.to_dict()
    _require_kind(content)
    axes = residual_axes(model_or_config)
    axes.require_gauge(gauge)
    if gauge.group == "orthogonal":
        require_rotations(model_or_config)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = moves(shapes, content, axes)
    return {name: found[name](tensor, gauge) for name, tensor in tensors.items()}


def find(path: Path, model: Mapping[str, Any] | None = None) -> StreamObject | None:
    """An adapter's folder as PEFT writes it, or a LoRA's GGUF file; None if it is neither.

    Parameters
    ----------
    path : path
    model : mapping, optional
        Content of ``config.json`` of the base model. Without it, it is read in the folder that the
        adapter names, where that is one.

    Raises
    ------
    ValueError
        If it is an adapter that cannot be carried.
    """
    if path.suffix == ".gguf" and path.is_file():
        return _gguf(path, model) if is_adapter(open_container(path)) else None
    if path.name in (CONFIG, *WEIGHTS) and (path.parent / CONFIG).is_file():
        raise ValueError(f"{path} is one file of an adapter: give its folder, {path.parent}")
    if not (path / CONFIG).is_file():
        return None
    config = _content(path / CONFIG)
    try:
        _require_kind(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    files = [path / name for name in WEIGHTS if (path / name).is_file()]
    if not files:
        raise ValueError(f"{path} has {CONFIG} and no weights: {' or '.join(WEIGHTS)} is missing")
    _require_alone(path, files)
    axes = _axes(path, config, model)
    parts = []
    for file in files:
        container = open_container(file)
        try:
            parts.append(Part(container, moves(container.shapes, config, axes)))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
    base = config.get("base_model_name_or_path")
    told = {"model": base, "architecture": axes.model_type}
    return StreamObject(
        path,
        KIND,
        f"PEFT, {_name(config)}",
        axes.dim,
        tuple(parts),
        {name: str(value) for name, value in told.items() if value},
        _of_mean(axes),
    )


def _gguf(path: Path, model: Mapping[str, Any] | None) -> StreamObject:
    if model is None:
        raise ValueError(f"{path} is a LoRA that does not name its base: give that with --model")
    axes = residual_axes(model)
    container = open_container(path)
    part = Part(container, gguf_moves(container, axes))
    told = {"architecture": axes.model_type}
    return StreamObject(
        path, KIND, "llama.cpp, LoRA", axes.dim, (part,), told, keeps_mean=_of_mean(axes)
    )


def _of_mean(axes: ResidualAxes) -> str:
    if axes.group == "signed_permutation":
        return ""
    return f"the norms of {axes.model_type}, its base model, subtract the mean over coordinates"


def _name(config: Mapping[str, Any]) -> str:
    return "DORA" if config.get("use_dora") else str(config["peft_type"])


def _require_kind(config: Mapping[str, Any]) -> None:
    kind = str(getattr(config.get("peft_type"), "value", config.get("peft_type")))
    require_carried(config)
    if kind not in TENSORS and kind not in PROMPTS:
        known = ", ".join(sorted({*TENSORS, *PROMPTS}))
        raise ValueError(f"adapters of peft_type {kind} are not known; carried are {known}")


def _require_alone(path: Path, files: list[Path]) -> None:
    """Refuse a folder with further tensors: they would stay in the coordinates that they are in."""
    for file in sorted(path.rglob("*")):
        if (
            file.is_file()
            and file not in files
            and file.suffix in SUFFIXES
            and file.suffix not in (".json", ".svec")
            and not any(file.match(pattern) for pattern in _WITHOUT_COORDINATES)
        ):
            raise ValueError(
                f"{file} lies beside an adapter, and how its tensors move with the stream is not "
                "known: take the adapter's files into a folder of their own"
            )


def _axes(path: Path, config: Mapping[str, Any], model: Mapping[str, Any] | None) -> ResidualAxes:
    if model is None:
        base = config.get("base_model_name_or_path")
        file = Path(str(base)) / "config.json"
        if not base or not file.is_file():
            told = f"of {base}, which is no folder here" if base else "that does not name its base"
            raise ValueError(
                f"{path} is an adapter {told}: give the base model's folder, or its config.json, "
                "with --model"
            )
        model = _content(file)
    return residual_axes(model)


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is no configuration")
    return content
