"""Every architecture of the installed transformers, derived and proved: a table.

``python -m bmatch.architecture.survey --out FILE [TYPE ...]``
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from bmatch.architecture.derived import cause_of, table_of
from bmatch.architecture.deriving import auto_class, proved_spaces
from bmatch.architecture.proof import TOLERANCE
from bmatch.architecture.shrink import shrunken, values_of, with_fields
from bmatch.architecture.templates import numberless
from bmatch.architecture.tiny import inputs_for, kinds_of_tensors, tiny_model

SECONDS = 60
"""Of processor time: no architecture takes longer."""


@dataclass(frozen=True)
class Row:
    """What was found for one type of model.

    Attributes
    ----------
    model_type : str
    group : str
        Of the residual stream; ``fixed`` if it has no gauge.
    carried : bool
        Whether a table says of every tensor how it carries the stream, so that gauges are applied.
    spaces : int
        Spaces that were proved, this one among them.
    refuted : int
    difference : float
        Largest change of an output under all spaces at once, of the largest output.
    larger : float
        The same under the next larger group of the stream.
    seconds : float
        Of processor time.
    reason : str
        Why there is no result or no table, or which operations had no rule.
    """

    model_type: str
    group: str = ""
    carried: bool = False
    spaces: int = 0
    refuted: int = 0
    difference: float = 0.0
    larger: float = 0.0
    seconds: float = 0.0
    reason: str = ""


def model_types() -> list[str]:
    """All causal, masked and sequence-to-sequence architectures."""
    from transformers.models.auto import modeling_auto as auto

    return sorted(
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys()
        | auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys()
        | auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.keys()
    )


def survey(model_type: str) -> Row:
    """Derive and prove the tiny model of one type."""
    start = time.process_time()
    try:
        with limited(SECONDS):
            model = tiny_model(*config_and_class(model_type))
            axes, proof = proved_spaces(model)
    except Exception as error:  # of whatever kind a class of transformers raises
        reason = cause_of(error, model_type, {})[:120]
        return Row(model_type, seconds=time.process_time() - start, reason=reason)
    residual = axes.residual
    reason = f"no rule: {', '.join(axes.unknown)}" if axes.unknown else ""
    carried = residual is not None
    try:
        if carried:
            table_of(axes, model.config, model, model)
    except Exception as error:
        carried, reason = False, reason or _short(error)
    return Row(
        model_type,
        "fixed" if residual is None else residual.group,
        carried,
        len(axes.spaces),
        len(axes.refuted),
        proof.together,
        proof.larger.get("residual", 0.0),
        time.process_time() - start,
        reason,
    )


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]


def config_and_class(model_type: str) -> tuple[Any, Any]:
    """The default config of a type, and from a config to the language model."""
    import transformers

    config = transformers.CONFIG_MAPPING[model_type]()
    build = auto_class(config).from_config
    return _with_layer_types(config, build), build


def _is_whole(config: Any, build: Callable[[Any], Any]) -> bool:
    try:
        return bool(kinds_of_tensors(shrunken(config), build))
    except Exception:  # each class has checks, and errors, of its own
        return True


def _with_layer_types(config: Any, build: Callable[[Any], Any]) -> Any:
    """A class's own config with layers of each kind, where it leaves open what models need.

    Of the kinds of layers that transformers knows, those of which the class makes models that run,
    one of several that have the same tensors.
    """
    from transformers.configuration_utils import ALLOWED_LAYER_TYPES

    if values_of(config).get("layer_types", ...) is not None or _is_whole(config, build):
        return config
    count = config.num_hidden_layers
    found: dict[frozenset[str], str] = {}
    for kind in ALLOWED_LAYER_TYPES:
        try:
            model = tiny_model(with_fields(config, {"layer_types": [kind] * count}), build)
            model(**inputs_for(model))
        except Exception:  # each class has checks, and errors, of its own
            continue
        found.setdefault(frozenset(map(numberless, model.state_dict())), kind)
    kinds = list(found.values())
    return with_fields(config, {"layer_types": (kinds * count)[:count]}) if kinds else config


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """End what takes more processor time with a `TimeoutError`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def table(rows: Iterable[Row]) -> str:
    """The rows as Markdown, with what they come to on top."""
    import transformers

    listed = list(rows)
    proved = [row for row in listed if row.group and row.group != "fixed"]
    counts = {group: sum(row.group == group for row in listed) for group in _GROUPS}
    lines = [
        "# Architectures",
        "",
        f"Derived and proved on tiny models of transformers {transformers.__version__} by",
        "`python -m bmatch.architecture.survey`: "
        + ", ".join(f"{count} {group}" for group, count in counts.items())
        + f"; {len(listed) - len(proved) - counts['fixed']} without a result.",
        "",
        f"Largest difference under all spaces of a model at once: "
        f"{max((row.difference for row in proved), default=0.0):.1e} of the largest output "
        f"(a space is refuted above {TOLERANCE:.0e}).",
        "",
        f"Of {sum(row.carried for row in listed)} a table says of every tensor how it carries the "
        "stream: `bmatch apply` takes them.",
        "",
        "| type | residual stream | table | spaces | refuted | difference | larger group | s | |",
        "|---|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in listed:
        numbers = ("", "", "", "")
        if row.group:
            larger = f"{row.larger:.1g}" if row.larger else ""
            numbers = (str(row.spaces), str(row.refuted), f"{row.difference:.0e}", larger)
        reason = row.reason.translate(_PLAIN)
        lines.append(
            f"| {row.model_type} | {row.group} | {'yes' if row.carried else ''} "
            f"| {' | '.join(numbers)} | {row.seconds:.1f} "
            f"| {reason} |"
        )
    return "\n".join(lines) + "\n"


_PLAIN = str.maketrans("|`<[]", "/'(()")  # what Markdown would read as its own

_GROUPS = ("signed_permutation", "permutation_global_sign", "permutation", "fixed")


def main(arguments: list[str] | None = None) -> None:
    """Survey the types that are named, or all, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    rows = []
    for model_type in given.types or model_types():
        rows.append(survey(model_type))
        given.out.write_text(table(rows))


if __name__ == "__main__":
    main()
