"""Whether numbered moments are those of the parameters that an order says: a test on squares.

Where a matrix is as high as it is wide, no shape tells a reader of the stream from a writer to it.
Squared gradients do: along the stream they follow those of the layer's other readers, which see the
same input, or of its other writers. Along heads they follow nothing, since heads and coordinates
have no common order: a correlation is then about normal, of deviation 1 / sqrt(D).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping

import torch

from bmatch.architecture.axes import ResidualAxes
from bmatch.transport.slots import SLOTS

LAYERS = 4
"""How many layers are looked at."""

DEVIATIONS = 6
"""Of chance, by which another axis must follow the stream before an order is refused."""

_LAYER = re.compile(r"\.(\d+)\.")


def require_order(
    read: Callable[[str], torch.Tensor],
    moments: Mapping[str, Mapping[str, str]],
    axes: ResidualAxes,
) -> None:
    """Refuse moments that lie along the stream on another axis than the weight's.

    Parameters
    ----------
    read : callable
        From what a moment is called to the moment.
    moments : mapping of str to mapping of str to str
        What the moments of parameters are called: by parameter, and then by slot.
    axes : ResidualAxes

    Raises
    ------
    ValueError
        With the first kind of matrix, and both correlations.
    """
    chance = axes.dim**-0.5
    for kind, pairs in _correlations(read, moments, axes).items():
        own, other = (sum(found) / len(pairs) for found in zip(*pairs, strict=True))
        if other > DEVIATIONS * chance and other > own + DEVIATIONS / 2 * chance:
            raise ValueError(
                f"the state numbers its parameters, and by their order {kind} would "
                f"carry the stream on an axis whose squared gradients do not follow it "
                f"(correlation {own:.2f}, of its other axis {other:.2f}): the optimizer had them "
                "in another order; give names"
            )


def _correlations(
    read: Callable[[str], torch.Tensor],
    moments: Mapping[str, Mapping[str, str]],
    axes: ResidualAxes,
) -> dict[str, list[tuple[float, float]]]:
    """For each kind of matrix and each layer, of its own axis and of the other."""
    layers: dict[int, dict[str, str]] = defaultdict(dict)
    for name, slots in moments.items():
        slot = next((slot for slot in slots if SLOTS[slot].missing is None), None)
        layer, rule = _LAYER.search(name), axes.row(name)
        if slot is not None and layer is not None and len(rule.words) == 2 and len(rule.axes) == 1:
            layers[int(layer[1])][name] = slots[slot]
    chosen = sorted(layers)[:: -(-len(layers) // LAYERS) or 1]
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number in chosen:
        known: dict[int, torch.Tensor] = {}
        square: dict[str, tuple[int, torch.Tensor, torch.Tensor]] = {}
        for name, path in layers[number].items():
            ((axis, _),) = axes.row(name).axes
            moment = read(path).double().square()  # of a second moment, too: the order is the same
            rows, columns = (_spread(moment, k) for k in (0, 1))
            if len(rows) == len(columns):
                square[name] = axis, rows, columns
            else:
                known[axis] = known.get(axis, 0) + (rows, columns)[axis]
        for name, (axis, *spreads) in square.items() if known else ():
            best = [max(_correlation(s, k) for k in known.values()) for s in spreads]
            found[_LAYER.sub(".*.", name)].append((best[axis], best[1 - axis]))
    return found


def _spread(moment: torch.Tensor, axis: int) -> torch.Tensor:
    """The logarithm of its mean along the other axis, centred."""
    mean = moment.mean(1 - axis).clamp_min(torch.finfo(torch.float64).tiny).log()
    return mean - mean.mean()


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    scale = one.norm() * other.norm()
    return float(one @ other / scale) if scale else 0.0
