"""``bmatch info``: what a gauge, a checkpoint, an object in coordinates or a CUDA device is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from bmatch.cli import console
from bmatch.cli.options import AsJson, examples
from bmatch.cli.transport import config_of, is_model, told_of
from bmatch.files.containers import SUFFIXES
from bmatch.gauge import SignedPermutation
from bmatch.gauge_file import load_gauge
from bmatch.network_gauge import NetworkGauge
from bmatch.orthogonal import OrthogonalGauge
from bmatch.report.tables import figures

if TYPE_CHECKING:
    from bmatch.architecture.axes import ResidualAxes
    from bmatch.architecture.premise import Premise

EXAMPLES = examples(
    "bmatch info gauge.safetensors", "bmatch info checkpoint/ --json", "bmatch info --gpu"
)


FEW = 4
"""Of a list, how many are shown; `--json` has all."""


def info(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[GAUGE|MODEL|OBJECT]", help="Gauge file, checkpoint, or what can be carried."
        ),
    ] = None,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="What was built for CUDA devices, and what is here.")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of the model that OBJECT belongs to, or its config.json."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a gauge, a checkpoint or an object is, or what CUDA devices can be used for."""
    if gpu == (path is not None):
        raise typer.BadParameter("give a gauge file, a checkpoint folder, an object, or --gpu")
    if path is None:
        title, values = _gpu_info()
    elif not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    else:
        title, values = _told(path, None if model is None else config_of(model))
    if as_json:
        console.print_json(values)
    else:
        rows = ((name.replace("_", " "), _shown(value)) for name, value in values.items())
        console.show(figures(title, rows))


def _told(path: Path, model: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """A gauge or a model, and if it is neither an object that lies in coordinates."""
    try:
        return _model_info(path) if path.is_dir() else _gauge_info(path)
    except (ValueError, FileNotFoundError) as error:
        with console.working("loading torch"):
            from bmatch.transport.finding import UnknownObjectError, find_object
            from bmatch.transport.resuming import is_sharded
        if is_model(path) and not is_sharded(path):  # a training run has the model's config, too
            raise
        try:
            return str(path), told_of(find_object(path, model=model))
        except UnknownObjectError as unknown:
            raise (unknown if _may_hold_objects(path) else error) from None


def _may_hold_objects(path: Path) -> bool:
    """Whether the readers of gauges and models tell nothing of it that helps."""
    from bmatch.models.checkpoint import INDEX, SINGLE  # imports torch

    others = {*SUFFIXES, ".csv"} - {".safetensors"}
    if path.is_file():
        return path.suffix in others
    is_checkpoint = any((path / name).exists() for name in (SINGLE, INDEX))
    kinds = {file.suffix for file in path.rglob("*")} & {*SUFFIXES} - {".json"}
    return bool(kinds) and not is_checkpoint


def _shown(value: Any) -> str:
    """A figure, or the first few of a list."""
    if not isinstance(value, list):
        return str(value)
    more = f"; and {len(value) - FEW} more" if len(value) > FEW else ""
    return "; ".join(value[:FEW]) + more if value else "none"


def _gauge_info(path: Path) -> tuple[str, dict[str, Any]]:
    g = load_gauge(path)
    inner = {"spaces": len(g)} if isinstance(g, NetworkGauge) else {}
    stream = g.residual or SignedPermutation.identity(0) if isinstance(g, NetworkGauge) else g
    return str(path), {
        "kind": "gauge",
        **inner,
        "coordinates": stream.dim,
        "group": stream.group,
        **_moved(stream),
        **{key: g.metadata[key] for key in sorted(g.metadata)},
    }


def _moved(g: SignedPermutation | OrthogonalGauge) -> dict[str, Any]:
    if isinstance(g, OrthogonalGauge):
        return {
            "fixes_the_ones_vector": g.fixes_ones,
            "distance_from_identity": round(g.distance(OrthogonalGauge.identity(g.dim)), 6),
        }
    return {
        "moved": int(np.count_nonzero(g.perm != np.arange(g.dim))),
        "flipped": int(np.count_nonzero(g.sign == -1)),
    }


def _gpu_info() -> tuple[str, dict[str, Any]]:
    from bmatch import _core
    from bmatch.assignment.cuda import HOST_ROWS

    facts = _core.cuda_facts()
    if facts.devices > 0:
        on_device = f"solved there from {HOST_ROWS} rows on, on the host below"
    elif facts.built:
        on_device = "there is no device"
    elif find_spec("triton") is not None:
        on_device = "scanned there by Triton, solved on the host, rows fetched as they are read"
    else:
        on_device = "solved on the host where backend='cpu' is asked for"
    return "CUDA devices", {
        "solver_built_for": (
            facts.compiled if facts.built else "none: no nvcc was found when bmatch was built"
        ),
        "driver": (
            f"CUDA {facts.driver // 1000}.{facts.driver % 1000 // 10}" if facts.driver else "none"
        ),
        "devices": facts.devices,
        "trouble": facts.trouble or "none",
        "matrices_on_a_device": on_device,
        "matrices_on_the_host": f"solved on the host ({_core.instruction_set()})",
        "moments": _moments_backend(),
    }


def _moments_backend() -> str:
    with console.working("loading torch"):
        if find_spec("torch") is None:
            return "torch is not installed"
        import torch
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device: moments are taken on the CPU"
    names = {torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())}
    triton = "Triton kernels" if find_spec("triton") is not None else "torch: no triton"
    return f"{triton} on {', '.join(sorted(names))}"


def _model_info(folder: Path) -> tuple[str, dict[str, Any]]:
    with console.working("loading torch"):
        from bmatch.architecture.rotating import stays_under_rotations
        from bmatch.models.checkpoint import open_checkpoint, tested_gains
    model = open_checkpoint(folder)
    axes = model.axes
    found = tested_gains(model)
    some_rotate = found.flat or bool(found.equal)
    rotates = some_rotate and stays_under_rotations(model.config)
    roles = [rule.role for name in model.names if (rule := axes.rule(name))]
    return str(folder), {
        "kind": "checkpoint",
        "architecture": axes.model_type,
        "norm": axes.family.norm,
        "gauge_group": axes.group,
        **_table_info(model.config, axes),
        "whole_gauge": found.whole_gauge if rotates else axes.group,
        "gains": found.gains,
        **_groups_of_gains(found),
        "coordinates": axes.dim,
        "blocks": axes.num_layers,
        "vocabulary": axes.vocab_size,
        "tied_embeddings": axes.tied,
        "tensors": len(model.names),
        "tensors_on_the_stream": roles.count("stream"),
        "gains_permuted_never_signed": roles.count("gain"),
        "tensors_left_alone": roles.count("inner"),
        "shards": len(model.shards),
        "bytes": model.num_bytes,
    }


def _table_info(config: Mapping[str, Any], axes: ResidualAxes) -> dict[str, Any]:
    """Where the table is from, and what its derivation could not tell."""
    from bmatch.architecture.table import shipped_for

    family, known = axes.family, shipped_for(config)
    origin = "derived from the config, and proved on a tiny model of its structure"
    if known is not None:
        origin = (
            f"comes with bmatch, proved under transformers {known.transformers}: changes outputs "
            f"by {known.proved['together']:.0e}, the next larger group by "
            f"{known.proved['larger']:.0e}"
        )
        if not (family.unknown or family.refuted or family.left_out):
            return {"table": origin}
    return {
        "table": origin,
        "operations_without_a_rule": list(family.unknown),
        "spaces_refuted": list(family.refuted),
        "spaces_left_out": list(family.left_out),
    }


def _groups_of_gains(found: Premise) -> dict[str, Any]:
    """Coordinates that may rotate into each other, where not all may; and how near others are."""
    if found.flat:
        return {}
    return {
        "coordinates_of_equal_gains": _listed(found.equal),
        "coordinates_of_proportional_gains": _listed(found.proportional),
        "nearest_gains_differ_by": float(f"{found.nearest:.3g}"),
    }


def _listed(groups: Sequence[Sequence[int]]) -> str:
    """Groups of coordinates, the first few of each."""

    def few(group: Sequence[int]) -> str:
        shown = " ".join(map(str, group[:8]))
        return shown if len(group) <= 8 else f"{shown} and {len(group) - 8} more"

    shown = "; ".join(few(group) for group in groups[:8])
    return "none" if not groups else shown if len(groups) <= 8 else f"{shown}; {len(groups)} groups"
