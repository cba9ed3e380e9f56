"""Cost matrices to measure on: every family by name, shape and seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks import smollm2

Matrix = npt.NDArray[np.floating]
Rng = np.random.Generator


def correlation(r: Rng, n: int, tokens: int, noise: float, common: int = 0) -> Matrix:
    """``1 - |corr|`` of activations and of a signed permutation of them, plus noise."""
    x = r.standard_normal((tokens, n), dtype=np.float32)
    if common:
        x += r.standard_normal((tokens, common), dtype=np.float32) @ r.standard_normal(
            (common, n), dtype=np.float32
        )
    y = np.empty_like(x)
    y[:, r.permutation(n)] = x * r.choice(np.float32([-1, 1]), n)
    y += np.float32(noise) * r.standard_normal((tokens, n), dtype=np.float32)
    for z in (x, y):
        z -= z.mean(0)
        z /= np.maximum(np.linalg.norm(z, axis=0), np.float32(1e-30))
    return 1 - np.abs(x.T @ y)


def _distances(r: Rng, n: int, m: int) -> Matrix:
    a, b = r.random((n, 2)), r.random((m, 2))
    return np.hypot(a[:, :1] - b[:, 0], a[:, 1:] - b[:, 1])


def _sparse(r: Rng, n: int) -> Matrix:
    """1% of the pairs, and one matching, cost something; the rest are "never", 2**31 - 1."""
    possible = r.random((n, n)) < 0.01
    possible[np.arange(n), r.permutation(n)] = True
    cost = r.integers(0, 1000, (n, n)) + r.integers(0, 1000, (n, 1)) + r.integers(0, 1000, n)
    return np.where(possible, cost, 2.0**31 - 1)


# Square, float32 unless said, (rng, n) -> [n, n]: the families of the targets, then degenerate.
SQUARE: dict[str, Callable[[Rng, int], Matrix]] = {
    "planted": lambda r, n: correlation(r, n, 4 * n, 0.5),
    "corr16": lambda r, n: correlation(r, n, 2 * n, 2.0, common=16),
    "noisy8": lambda r, n: correlation(r, n, max(n, 4), 8.0),
    "noisy": lambda r, n: correlation(r, n, max(n, 4), 12.0),
    "uniform": lambda r, n: r.random((n, n), dtype=np.float32),
    "int100": lambda r, n: r.integers(0, 100, (n, n)).astype(np.float32),
    "spatial": lambda r, n: _distances(r, n, n).astype(np.float32),
    "lowrank": lambda r, n: (
        -np.abs(
            r.standard_normal((n, 8), dtype=np.float32)
            @ r.standard_normal((8, n), dtype=np.float32)
        )
    ),
    "product": lambda r, n: np.outer(r.random(n), r.random(n)).astype(np.float32),
}

DEGENERATE: dict[str, Callable[[Rng, int], Matrix]] = {
    "binary": lambda r, n: r.integers(0, 2, (n, n)).astype(np.float32),
    "one zero a row": lambda r, n: (r.integers(0, n, (n, 1)) != np.arange(n)).astype(np.float32),
    "equal rows": lambda r, n: np.tile(r.random(n, dtype=np.float32), (n, 1)),
    "equal columns": lambda r, n: np.tile(r.random((n, 1), dtype=np.float32), (1, n)),
    "constant": lambda r, n: np.ones((n, n), np.float32),
    "|a - b|": lambda r, n: np.abs(r.random((n, 1)) - r.random(n)).astype(np.float32),
    "a + b": lambda r, n: (r.random((n, 1)) + r.random(n)).astype(np.float32),
    "blocks": lambda r, n: np.repeat(
        np.repeat(r.random((n // 16, n // 16), dtype=np.float32), 16, axis=0), 16, axis=1
    ),
    "sparse": _sparse,
    "uniform float64": lambda r, n: r.random((n, n)),
    "planted float64": lambda r, n: correlation(r, n, 4 * n, 0.5).astype(np.float64),
}

# float64, (rng, n, m) -> [n, m], after the generators of SciPy's own benchmark.
SCIPY: dict[str, Callable[[Rng, int, int], Matrix]] = {
    "scipy uniform": lambda r, n, m: r.uniform(-20, 20, (n, m)),
    "scipy spatial": lambda r, n, m: _distances(r, n, m),
    "scipy logarithmic": lambda r, n, m: 10.0 ** r.uniform(-20, 20, (n, m)),
    "scipy integer": lambda r, n, m: r.integers(-1000, 1000, (n, m)).astype(np.float64),
    "scipy binary": lambda r, n, m: r.integers(0, 2, (n, m)).astype(np.float64),
}


# Families of a fixed size, from a real model.
REAL = {family: site.size for family, site in smollm2.FAMILIES.items()}


def dtype(family: str) -> str:
    """What the matrices of a family consist of."""
    return "float32" if family in REAL else str(make(family, 16, 16, 0).dtype)


def make(family: str, n: int, m: int, seed: int) -> Matrix:
    """The matrix ``[n, m]`` of a family; equal arguments give equal matrices."""
    if family in REAL:
        return smollm2.matrix(family, seed)
    r = np.random.default_rng([seed, n, m])
    if family in SCIPY:
        return SCIPY[family](r, n, m)
    return {**SQUARE, **DEGENERATE}[family](r, n)
