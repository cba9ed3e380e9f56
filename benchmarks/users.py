"""Cost matrices as users bring them: `USERS`, families by name, of any shape.

Each says who brings it. A family draws ``[n, m]`` from NumPy's generator; what type the matrix has
is the caller's to choose, and integers stay integers in either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Rng = np.random.Generator
Matrix = Any  # an array [n, m]


class Family(NamedTuple):
    """Who brings such matrices, and how one is drawn."""

    brings: str
    draw: Callable[[Rng, int, int], Matrix]


def distances(a: Matrix, b: Matrix) -> Matrix:
    """Euclidean, between points ``[n, d]`` and ``[m, d]``."""
    if a.shape[1] == 2:
        return np.hypot(a[:, :1] - b[:, 0], a[:, 1:] - b[:, 1])
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0))


def cosines(a: Matrix, b: Matrix) -> Matrix:
    """Between vectors ``[n, d]`` and ``[m, d]``; 0 where one of them is zero."""
    a, b = (z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-30) for z in (a, b))
    return a @ b.T


def moved(r: Rng, n: int, m: int, d: int, noise: float, shared: float = 1.0) -> tuple[Any, Any]:
    """Vectors ``[n, d]``, and ``[m, d]`` of which a part are the same ones with noise; shuffled."""
    a, b = r.standard_normal((n, d)), r.standard_normal((m, d))
    k = int(shared * min(n, m))
    b[:k] = a[r.permutation(n)[:k]] + noise * r.standard_normal((k, d))
    return a, b[r.permutation(m)]


# Trackers and detectors.


class Boxes(NamedTuple):
    """Boxes ``[n, 2]``: their centres and their sides."""

    centre: Matrix
    side: Matrix

    @property
    def area(self) -> Matrix:
        """Of every box."""
        return self.side.prod(1)

    def common(self, other: Boxes) -> tuple[Matrix, Matrix, Matrix]:
        """Intersections, unions and the areas that hold both, ``[n, m]``."""
        inner, outer = np.ones((2, len(self.side), len(other.side)))
        for k in (0, 1):  # one coordinate after the other
            (a, b), (s, t) = (
                (one.centre[:, k] - one.side[:, k] / 2, one.centre[:, k] + one.side[:, k] / 2)
                for one in (self, other)
            )
            inner *= np.maximum(np.minimum.outer(b, t) - np.maximum.outer(a, s), 0)
            outer *= np.maximum.outer(b, t) - np.minimum.outer(a, s)
        return inner, np.add.outer(self.area, other.area) - inner, outer


def frames(r: Rng, n: int, m: int, spacing: float) -> tuple[Boxes, Boxes]:
    """Two frames of a video: the same boxes a little later, in another order; unit boxes."""
    k = max(n, m)
    centre, side = r.random((k, 2)) * k**0.5 * spacing, r.uniform(0.5, 1.5, (k, 2))
    order = r.permutation(k)[:m]
    later = Boxes(
        centre[order] + r.normal(0, 0.2, (m, 2)), side[order] * r.uniform(0.9, 1.1, (m, 2))
    )
    return Boxes(centre[:n], side[:n]), later


def iou(r: Rng, n: int, m: int, spacing: float) -> Matrix:
    """1 - intersection over union."""
    inner, union, _ = (first := frames(r, n, m, spacing))[0].common(first[1])
    return 1 - inner / union


def giou(r: Rng, n: int, m: int) -> Matrix:
    """1 - generalised intersection over union."""
    before, after = frames(r, n, m, 1.4)
    inner, union, outer = before.common(after)
    return 1 - inner / union + (outer - union) / outer


def gated(r: Rng, n: int, m: int, value: float | None) -> Matrix:
    """Distances between points; beyond the gate `value`, or the gate itself."""
    near = distances(r.random((n, 2)), r.random((m, 2)))
    gate = (6 / np.pi / max(n, m)) ** 0.5  # some six candidates a row
    return np.where(near > gate, gate if value is None else value, near)


def cost_limit(r: Rng, n: int, m: int) -> Matrix:
    """``[[C, L/2], [L/2, 0]]``."""
    a, b = n // 2, m // 2
    cost = np.full((n, m), 0.025)
    cost[:a, :b] = distances(r.random((a, 2)), r.random((b, 2)))
    cost[a:, b:] = 0
    return cost


def own_dummies(r: Rng, n: int, m: int) -> Matrix:
    """``[C | L on the diagonal, 1e6 elsewhere]``."""
    k = m // 2
    cost = np.full((n, m), 1e6)
    cost[:, :k] = distances(r.random((n, 2)), r.random((k, 2)))
    i = np.arange(min(n, m - k))
    cost[i, k + i] = 0.05
    cost[m - k :, :k] = np.minimum(cost[m - k :, :k], 0.3)
    return cost


def detr(r: Rng, n: int, m: int, copies: int = 1) -> Matrix:
    """Queries by targets: 5 |box - box| - probability - 2 GIoU; a square is filled with zeros."""
    targets = max(1, m // 3 if n == m else m)
    kinds = max(1, targets // copies)
    logits = r.normal(-3, 2, (n, 91))
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    pick = np.arange(targets) % kinds
    query = Boxes(r.random((n, 2)), r.uniform(0.02, 0.5, (n, 2)))
    target = Boxes(r.random((kinds, 2))[pick], r.uniform(0.02, 0.5, (kinds, 2))[pick])
    inner, union, outer = query.common(target)
    cost = np.zeros((n, m))
    for a, b in zip(query, target, strict=True):
        for k in (0, 1):
            cost[:, :targets] += 5 * np.abs(np.subtract.outer(a[:, k], b[:, k]))
    cost[:, :targets] -= chance[:, r.integers(0, 91, kinds)[pick]]
    cost[:, :targets] -= 2 * (inner / union - (outer - union) / outer)
    return cost


def dice(r: Rng, n: int, m: int) -> Matrix:
    """1 - dice coefficient of soft masks of 256 pixels and binary ones."""
    soft = 1 / (1 + np.exp(-3 * r.standard_normal((n, 256))))
    mask = (r.random((m, 256)) < r.uniform(0.01, 0.3, (m, 1))).astype(float)
    return 1 - (2 * soft @ mask.T + 1) / (np.add.outer(soft.sum(1), mask.sum(1)) + 1)


def padded(cost: Matrix, n: int, m: int, value: float) -> Matrix:
    """A smaller matrix in the corner of one that is `value` elsewhere."""
    whole = np.full((n, m), float(value))
    whole[: len(cost), : cost.shape[1]] = cost
    return whole


# Points, embeddings, networks.


def nearest(r: Rng, n: int, m: int) -> Matrix:
    """Squared distances to the eight nearest points of each row; 10 elsewhere."""
    cost = distances(r.random((n, 3)), r.random((m, 3))) ** 2
    k = min(8, m) - 1
    return np.where(cost > np.partition(cost, k, axis=1)[:, k : k + 1], 10.0, cost)


def reachable(r: Rng, n: int, m: int) -> Matrix:
    """Squared distances in the plane to each row's twenty nearest; elsewhere the largest."""
    cost = distances(r.standard_normal((n, 2)), 1 + r.standard_normal((m, 2))) ** 2
    k = min(20, m) - 1
    return np.where(cost > np.partition(cost, k, axis=1)[:, k : k + 1], cost.max(), cost)


def clusters(r: Rng, n: int, m: int) -> Matrix:
    """Distances between points of the same 2% of centres."""
    centres = r.standard_normal((max(2, n // 50), 16))
    a, b = (
        centres[r.integers(0, len(centres), k)] + 0.1 * r.standard_normal((k, 16)) for k in (n, m)
    )
    return distances(a, b)


def anisotropic(r: Rng, n: int, m: int) -> Matrix:
    """1 - cosine, where all vectors share a direction and some are everybody's neighbours."""
    a, b = moved(r, n, m, 32, 0.5)
    common = 2 * r.standard_normal(32)
    return 1 - cosines(a + common, b + common * r.uniform(0.5, 2, (m, 1)))


def dictionaries(r: Rng, n: int, m: int) -> Matrix:
    """-|cosine| of directions, half of which have no partner."""
    return -np.abs(cosines(*moved(r, n, m, 96, 0.05, shared=0.5)))


def rectified(r: Rng, n: int, m: int) -> Matrix:
    """1 - |corr| of ReLU activations; a tenth of the units are dead, rows and columns of zeros."""
    sides = [np.maximum(z - 0.5, 0) for z in moved(r, n, m, 4 * max(n, m) if n < 300 else 600, 0.5)]
    for z in sides:
        z[r.random(len(z)) < 0.1] = 0
        z -= z.mean(1, keepdims=True)
    return 1 - np.abs(cosines(*sides))


def log_chances(r: Rng, n: int, m: int) -> Matrix:
    """-log of the softmax of logits."""
    logits = 3 * r.standard_normal((n, m))
    return np.log(np.exp(logits).sum(1, keepdims=True)) - logits


def chances(r: Rng, n: int, m: int) -> Matrix:
    """-softmax of sharp logits: rows with one large entry."""
    logits = np.exp(6 * r.standard_normal((n, m)))
    return -logits / logits.sum(1, keepdims=True)


def decibels(r: Rng, n: int, m: int) -> Matrix:
    """Minus the signal-to-noise ratio of signals and estimates of them."""
    share = np.minimum(cosines(*moved(r, n, m, 128, 0.7)) ** 2, 1 - 1e-9)
    return -10 * np.log10(share / (1 - share) + 1e-8)


def edits(r: Rng, n: int, m: int) -> Matrix:
    """Levenshtein distances of words of six letters out of four."""
    a, b = (r.integers(0, 4, (k, 6), dtype=np.int8) for k in (n, m))
    last = [np.full((n, m), j, np.int8) for j in range(7)]
    for i in range(6):
        row = [np.full((n, m), i + 1, np.int8)]
        for j in range(6):
            differ = np.not_equal.outer(a[:, i], b[:, j]).view(np.int8)
            row.append(np.minimum(np.minimum(last[j + 1], row[j]) + 1, last[j] + differ))
        last = row
    return last[6]


def confusion(r: Rng, n: int, m: int) -> Matrix:
    """-counts: clusters by classes, most of them never together."""
    cost = -r.poisson(0.02, (n, m)).astype(float)
    k = min(n, m)
    cost[r.permutation(n)[:k], r.permutation(m)[:k]] -= r.poisson(5, k)
    return cost


def products_of_graphs(r: Rng, n: int, m: int) -> Matrix:
    """-A P B of two sparse graphs: the linear step of graph matching, integers."""
    k = max(n, m)
    a = (r.random((k, k)) < min(1.0, 8 / k)).astype(np.float32)
    return -(a @ a[r.permutation(k)])[:n, :m]


def graph_edit(r: Rng, n: int, m: int) -> Matrix:
    """``[[C, deletions], [insertions, 0]]``, those on diagonals, 1e4 beside them."""
    a, b = n // 2, m // 2
    cost = np.zeros((n, m))
    label, other, degree, degrees = (r.integers(0, 5, k) for k in (a, b, a, b))
    cost[:a, :b] = np.not_equal.outer(label, other) + np.abs(np.subtract.outer(degree, degrees))
    cost[:a, b:] = 1e4
    cost[a:, :b] = 1e4
    i, j = np.arange(min(a, m - b)), np.arange(min(b, n - a))
    cost[i, b + i] = 1 + degree[i]
    cost[a + j, j] = 1 + degrees[j]
    return cost


# Lists, graphs, grids.


def short_lists(r: Rng, n: int, m: int) -> Matrix:
    """Ranks 0 to 4 of popular columns; 100 elsewhere."""
    popular = np.arange(1, m + 1) ** -0.8
    # The largest of exponentials over weights: a draw without replacement.
    order = np.argpartition(r.exponential(size=(n, m)) / popular, min(5, m) - 1)[:, :5]
    cost = np.full((n, m), 100.0)
    np.put_along_axis(cost, order, np.arange(order.shape[1], dtype=float)[None], 1)
    return cost


def few_among_ones(r: Rng, n: int, m: int) -> Matrix:
    """Two random entries a row; 1 elsewhere."""
    cost = np.ones((n, m))
    cost[np.arange(n)[:, None], r.integers(0, m, (n, 2))] = r.random((n, 2))
    return cost


def grid(r: Rng, n: int, m: int) -> Matrix:
    """Manhattan distances between the places of a square grid."""
    side = int(np.ceil(max(n, m) ** 0.5))
    places = np.stack(np.divmod(np.arange(max(n, m)), side), 1)
    a, b = places[:n], places[r.permutation(max(n, m))[:m]]
    return sum(np.abs(np.subtract.outer(a[:, k], b[:, k])) for k in (0, 1))


def block_diagonal(r: Rng, n: int, m: int) -> Matrix:
    """Random in blocks of 40 rows; 1 elsewhere."""
    i, j = np.arange(n) // 40, np.arange(m) * n // m // 40
    return np.where(np.equal.outer(i, j), r.random((n, m)), 1.0)


def banded(r: Rng, n: int, m: int) -> Matrix:
    """Random within 10 of the diagonal; 1e4 elsewhere."""
    off = np.abs(np.subtract.outer(np.arange(n), np.arange(m) * (n / m)))
    return np.where(off <= 10, r.random((n, m)), 1e4)


def toeplitz(r: Rng, n: int, m: int) -> Matrix:
    """Constant along diagonals."""
    return r.random(n + m)[np.subtract.outer(np.arange(n), np.arange(m)) + m]


def forbidden(r: Rng, n: int, m: int, value: float) -> Matrix:
    """Nine of ten entries are `value`; a complete matching is left."""
    k = min(n, m)
    allowed = r.random((n, m)) < 0.1
    allowed[r.permutation(n)[:k], r.permutation(m)[:k]] = True
    return np.where(allowed, r.random((n, m)), value)


def permutation(r: Rng, n: int, m: int) -> Matrix:
    """A permutation of -3 in integers from -2 to 2."""
    cost, k = r.integers(-2, 3, (n, m)), min(n, m)
    cost[r.permutation(n)[:k], r.permutation(m)[:k]] = -3
    return cost


def hilbert(r: Rng, n: int, m: int) -> Matrix:
    """``1 / (i + j + 1)``, shuffled."""
    return (1 / np.add.outer(np.arange(n), np.arange(m) + 1.0))[r.permutation(n)][
        :, r.permutation(m)
    ]


def bursts(r: Rng, n: int, m: int) -> Matrix:
    """|time - time| of events, capped at a window; two sorted recordings."""
    times, others = (np.sort(r.exponential(size=k).cumsum() * max(n, m) / k) for k in (n, m))
    return np.minimum(np.abs(np.subtract.outer(times, others)), 5.0)


def outer(r: Rng, n: int, m: int) -> tuple[Matrix, Matrix]:
    """Two random vectors, as a column and a row."""
    return r.random((n, 1)), r.random(m)


USERS: dict[str, Family] = {
    "IoU": Family(
        "trackers (SORT, ByteTrack, supervision): sparse", lambda r, n, m: iou(r, n, m, 1.4)
    ),
    "IoU crowded": Family("trackers in crowds", lambda r, n, m: iou(r, n, m, 0.35)),
    "GIoU": Family("trackers, panoptic quality", giou),
    "gate": Family("trackers that cap distances", lambda r, n, m: gated(r, n, m, None)),
    "gate 1e5": Family("DeepSORT's INFTY_COST", lambda r, n, m: gated(r, n, m, 1e5)),
    "cost limit": Family("lap.lapjv(cost_limit=)", cost_limit),
    "own dummies": Family("multi-target trackers: a miss for each track", own_dummies),
    "DETR": Family("transformers' matchers", detr),
    "DETR copies": Family("H-DETR, Co-DETR: six copies a target", lambda r, n, m: detr(r, n, m, 6)),
    "dice": Family("Mask2Former, OneFormer", dice),
    "zero rows": Family(
        "whoever makes it square for lapjv",
        lambda r, n, m: padded(r.random((max(1, n * 2 // 3), m)), n, m, 0),
    ),
    "zero columns": Family(
        "the same, the other way",
        lambda r, n, m: padded(r.random((n, max(1, m * 2 // 3))), n, m, 0),
    ),
    "padded with 1": Family(
        "the same, with the largest cost",
        lambda r, n, m: padded(r.random((max(1, n * 3 // 4), max(1, m * 3 // 4))), n, m, 1),
    ),
    "kNN": Family("point cloud registration", nearest),
    "twenty nearest": Family("drivers and riders", reachable),
    "clusters": Family("balanced k-means, embeddings", clusters),
    "squared distances": Family(
        "optimal transport of samples",
        lambda r, n, m: distances(r.standard_normal((n, 2)), 1 + r.standard_normal((m, 2))) ** 2,
    ),
    "colours": Family(
        "colour transfer: integers",
        lambda r, n, m: np.round(
            distances(r.integers(0, 256, (n, 3)), r.integers(0, 256, (m, 3)) // 2) ** 2
        ),
    ),
    "cosine": Family(
        "retrieval, word alignment", lambda r, n, m: 1 - cosines(*moved(r, n, m, 64, 0.15))
    ),
    "hubs": Family("embeddings with a common direction", anisotropic),
    "SAE": Family("dictionaries of sparse autoencoders", dictionaries),
    "ReLU": Family("activations with dead units", rectified),
    "logits": Family("assignment of samples to labels", log_chances),
    "softmax": Family("pseudo-labels, routing to experts", chances),
    "decibels": Family("permutation-invariant training", decibels),
    "edits": Family("record linkage", edits),
    "confusion": Family("cluster accuracy", confusion),
    "graphs": Family("graph matching (FAQ)", products_of_graphs),
    "graph edit": Family("graph edit distance", graph_edit),
    "ranks": Family(
        "preference lists", lambda r, n, m: np.argsort(r.random((n, m), dtype=np.float32), 1)
    ),
    "five ranks": Family("preference lists that end", short_lists),
    "ten places": Family(
        "courses with places: equal columns",
        lambda r, n, m: np.argsort(r.random((n, -(-m // 10))), 1)[:, np.arange(m) // 10],
    ),
    "one-hot": Family("codes", lambda r, n, m: 1 - np.eye(m)[r.integers(0, m, n)]),
    "few zeros": Family("feasibility", lambda r, n, m: r.random((n, m)) > 2.5 / m),
    "two a row": Family("almost nothing known", few_among_ones),
    "uint8": Family("image costs", lambda r, n, m: r.integers(0, 256, (n, m))),
    "two decimals": Family("prices, rounded scores", lambda r, n, m: np.round(r.random((n, m)), 2)),
    "six digits": Family("integer costs", lambda r, n, m: r.integers(0, 10**6, (n, m))),
    "grid": Family("taxis, particles on a lattice", grid),
    "block diagonal": Family("blocking in record linkage", block_diagonal),
    "banded": Family("time windows", banded),
    "bursts": Family("spikes, events in two recordings", bursts),
    "Toeplitz": Family("signals, shifts", toeplitz),
    "(a - b)^2": Family("1-d optimal transport", lambda r, n, m: np.subtract(*outer(r, n, m)) ** 2),
    "a b": Family("rearrangement", lambda r, n, m: np.multiply(*outer(r, n, m))),
    "|a - b| integers": Family(
        "ages, times", lambda r, n, m: abs(r.integers(0, 1000, (n, 1)) - r.integers(0, 1000, m))
    ),
    "sum": Family("separable costs", lambda r, n, m: np.add(*outer(r, n, m))),
    "sum, noisy": Family(
        "workers and tasks that are good or bad",
        lambda r, n, m: r.random((n, m)) * 0.01 + np.add(*outer(r, n, m)),
    ),
    "product, noisy": Family(
        "skill times difficulty",
        lambda r, n, m: r.random((n, m)) * 0.01 + np.multiply(*outer(r, n, m)),
    ),
    "exp(3 normal)": Family("heavy tails", lambda r, n, m: np.exp(3 * r.standard_normal((n, m)))),
    "exp(30 normal)": Family("likelihoods", lambda r, n, m: np.exp(30 * r.standard_normal((n, m)))),
    "row scales": Family(
        "features of different units",
        lambda r, n, m: r.random((n, m)) * 10 ** r.uniform(-4, 4, (n, 1)),
    ),
    "column scales": Family(
        "the same, columns", lambda r, n, m: r.random((n, m)) * 10 ** r.uniform(-4, 4, m)
    ),
    "replicas": Family(
        "slots of one machine: equal rows", lambda r, n, m: np.tile(r.random(m), (n, 1))
    ),
    "ten equal rows": Family(
        "slots of ten machines",
        lambda r, n, m: r.random((-(-n // 10), m))[r.integers(0, -(-n // 10), n)],
    ),
    "ten equal columns": Family(
        "places of a class",
        lambda r, n, m: r.random((n, -(-m // 10)))[:, r.integers(0, -(-m // 10), m)],
    ),
    "nearly constant": Family("untrained models", lambda r, n, m: 1 + 1e-5 * r.random((n, m))),
    "forbidden 1e6": Family("big M", lambda r, n, m: forbidden(r, n, m, 1e6)),
    "forbidden 1e9": Family("big M, larger", lambda r, n, m: forbidden(r, n, m, 1e9)),
    "forbidden inf": Family(
        "SciPy's own way to forbid", lambda r, n, m: forbidden(r, n, m, np.inf)
    ),
    "permutation": Family("aligned codes: small integers", permutation),
    "Hilbert": Family("smooth and ill-conditioned", hilbert),
}
