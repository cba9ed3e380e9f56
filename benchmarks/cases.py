"""Cost matrices to measure on: every family by name, shape and seed, on the host or on a device.

A family is a function of a source of random numbers and a shape. To add one, add it to the
dictionary of what it draws with: `SQUARE` by `OnHost` or `OnDevice`, `DEGENERATE`, `SCIPY` and
`USERS` (users.py) by NumPy's generator. Families of `USERS` and recipes (recipes.py), which say how
a matrix is made of others, are float32, or float64 where " float64" follows the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks import recipes, smollm2
from benchmarks.users import USERS

Matrix = npt.NDArray[np.floating[Any]]
Rng = np.random.Generator


class OnHost(Rng):
    """NumPy's generator, with what a device draws, too."""

    def floats(self, *shape: int) -> Any:
        """Uniform float32 in [0, 1)."""
        return self.random(shape, dtype=np.float32)

    def coordinates(self, *shape: int) -> Any:
        """Uniform in [0, 1), float64 here."""
        return self.random(shape)

    def normals(self, *shape: int) -> Any:
        """Standard normal float32."""
        return self.standard_normal(shape, dtype=np.float32)

    def digits(self, high: int, *shape: int) -> Any:
        """Integers from 0 to high - 1 as float32."""
        return self.integers(0, high, shape).astype(np.float32)

    def correlation(self, n: int, tokens: int, noise: float, common: int = 0) -> Any:
        """``1 - |corr|`` of activations and of a signed permutation of them, plus noise."""
        x = self.normals(tokens, n)
        if common:
            x += self.normals(tokens, common) @ self.normals(common, n)
        y = np.empty_like(x)
        y[:, self.permutation(n)] = x * self.choice(np.array([-1, 1], np.float32), n)
        y += np.float32(noise) * self.normals(tokens, n)
        for z in (x, y):
            z -= z.mean(0)
            z /= np.maximum(np.linalg.norm(z, axis=0), np.float32(1e-30))
        return 1 - np.abs(x.T @ y)


class OnDevice:
    """The same by torch, float32 all, where the matrix is to lie."""

    def __init__(self, seed: int, device: Any) -> None:
        import torch

        self.torch, self.device = torch, device
        self.generator = torch.Generator(device).manual_seed(seed)

    def floats(self, *shape: int) -> Any:
        """Uniform in [0, 1)."""
        return self.torch.rand(shape, generator=self.generator, device=self.device)

    coordinates = floats

    def normals(self, *shape: int) -> Any:
        """Standard normal."""
        return self.torch.randn(shape, generator=self.generator, device=self.device)

    def digits(self, high: int, *shape: int) -> Any:
        """Integers from 0 to high - 1."""
        drawn = self.torch.randint(0, high, shape, generator=self.generator, device=self.device)
        return drawn.float()

    def correlation(self, n: int, tokens: int, noise: float, common: int = 0) -> Any:
        """As on the host, in batches of tokens: 32,768 rows take 16 GB of activations."""
        torch = self.torch
        sums = [torch.zeros(n, device=self.device) for _ in range(4)]
        products = torch.zeros(n, n, device=self.device)
        loads = self.normals(common, n)
        perm = torch.randperm(n, generator=self.generator, device=self.device)
        sign = self.digits(2, n) * 2 - 1
        for start in range(0, tokens, 4096):
            batch = min(4096, tokens - start)
            x = self.normals(batch, n)
            if common:
                x += self.normals(batch, common) @ loads
            y = x[:, perm] * sign + noise * self.normals(batch, n)
            products += y.T @ x
            for total, part in zip(sums, (y, x, y.square(), x.square()), strict=True):
                total += part.sum(0)
        y_scale, x_scale = (
            (square - total * total / tokens).clamp_min(1e-30).rsqrt()
            for total, square in zip(sums[:2], sums[2:], strict=True)
        )
        products -= torch.outer(sums[0], sums[1]) / tokens
        return 1 - (products * y_scale[:, None] * x_scale).abs()


def _distances(d: Any, n: int, m: int) -> Any:
    """Between points of the unit square."""
    a, b = d.coordinates(n, 2), d.coordinates(m, 2)
    hypot = np.hypot if isinstance(d, OnHost) else d.torch.hypot
    return hypot(a[:, :1] - b[:, 0], a[:, 1:] - b[:, 1])


def _sparse(r: Rng, n: int) -> Matrix:
    """1% of the pairs, and one matching, cost something; the rest are "never", 2**31 - 1."""
    possible = r.random((n, n)) < 0.01
    possible[np.arange(n), r.permutation(n)] = True
    cost = r.integers(0, 1000, (n, n)) + r.integers(0, 1000, (n, 1)) + r.integers(0, 1000, n)
    return np.where(possible, cost, 2.0**31 - 1)


# The families of the targets: square, float32, (draws, n) -> [n, n].
SQUARE: dict[str, Callable[[Any, int], Any]] = {
    "planted": lambda d, n: d.correlation(n, 4 * n, 0.5),
    "corr16": lambda d, n: d.correlation(n, 2 * n, 2.0, common=16),
    "noisy8": lambda d, n: d.correlation(n, max(n, 4), 8.0),
    "noisy": lambda d, n: d.correlation(n, max(n, 4), 12.0),
    "uniform": lambda d, n: d.floats(n, n),
    "int100": lambda d, n: d.digits(100, n, n),
    "spatial": lambda d, n: _distances(d, n, n),
    "lowrank": lambda d, n: -abs(d.normals(n, 8) @ d.normals(8, n)),
    "product": lambda d, n: d.coordinates(n, 1) * d.coordinates(n),
}

# Square, float32 unless said, (rng, n) -> [n, n].
DEGENERATE: dict[str, Callable[[Rng, int], Matrix]] = {
    "binary": lambda r, n: r.integers(0, 2, (n, n)).astype(np.float32),
    "one zero a row": lambda r, n: (r.integers(0, n, (n, 1)) != np.arange(n)).astype(np.float32),
    "equal rows": lambda r, n: np.tile(r.random(n, dtype=np.float32), (n, 1)),
    "equal columns": lambda r, n: np.tile(r.random((n, 1), dtype=np.float32), (1, n)),
    "constant": lambda r, n: np.ones((n, n), np.float32),
    "|a - b|": lambda r, n: np.abs(r.random((n, 1)) - r.random(n)).astype(np.float32),
    "a + b": lambda r, n: (r.random((n, 1)) + r.random(n)).astype(np.float32),
    "blocks": lambda r, n: np.repeat(
        np.repeat(r.random((-(-n // 16),) * 2, dtype=np.float32), 16, axis=0), 16, axis=1
    )[:n, :n],
    "sparse": _sparse,
    "uniform float64": lambda r, n: r.random((n, n)),
    "planted float64": lambda r, n: SQUARE["planted"](r, n).astype(np.float64),
}

# float64, (rng, n, m) -> [n, m], after the generators of SciPy's own benchmark.
SCIPY: dict[str, Callable[[Rng, int, int], Matrix]] = {
    "scipy uniform": lambda r, n, m: r.uniform(-20, 20, (n, m)),
    "scipy spatial": _distances,
    "scipy logarithmic": lambda r, n, m: 10.0 ** r.uniform(-20, 20, (n, m)),
    "scipy integer": lambda r, n, m: r.integers(-1000, 1000, (n, m)).astype(np.float64),
    "scipy binary": lambda r, n, m: r.integers(0, 2, (n, m)).astype(np.float64),
}

# Families of a fixed size, from a real model.
REAL = {family: site.size for family, site in smollm2.FAMILIES.items()}


def on_host(*seed: int) -> OnHost:
    """Draws by NumPy; equal seeds give equal numbers."""
    return OnHost(np.random.PCG64(seed))


WIDE = " float64"
"""What follows the name of a family of `USERS`, or a recipe, whose matrix is to be float64."""


def draw(r: Rng, family: str, n: int, m: int) -> Any:
    """A matrix ``[n, m]`` by NumPy, of a family or a recipe; of square families a part."""
    side = max(n, m)
    if recipes.is_recipe(family):
        cost: Any = recipes.draw(r, family, n, m, draw)
    elif family in USERS:
        cost = USERS[family].draw(r, n, m)
    elif family in SCIPY:
        cost = SCIPY[family](r, n, m)
    elif family in SQUARE:
        cost = SQUARE[family](OnHost(r.bit_generator), side).astype(np.float32, copy=False)
    else:
        cost = DEGENERATE[family](r, side)
    return cost[:n, :m]


def of_type(cost: Matrix, wide: bool) -> Matrix:
    """In float64 or float32, whose greatest stands for what lies beyond it; infinity stays."""
    if wide:
        return np.ascontiguousarray(cost, np.float64)
    most = np.finfo(np.float32).max
    bounded = np.where(np.isfinite(cost), np.clip(cost, -most, most), cost)
    return np.ascontiguousarray(bounded, np.float32)


def make(family: str, n: int, m: int, seed: int, device: Any = None) -> Any:
    """The matrix ``[n, m]`` of a family, by NumPy, or as a tensor on a torch device.

    Equal arguments give equal matrices; those of a device differ from the host's. Families that
    only the host draws are carried over.
    """
    if device is not None and family in SQUARE:
        return SQUARE[family](OnDevice(seed + n, device), n)
    r, name = on_host(seed, n, m), family.removesuffix(WIDE)
    if family in REAL:
        cost: Any = smollm2.matrix(family, seed)
    elif name in USERS or recipes.is_recipe(name):
        cost = of_type(draw(r, name, n, m), wide=name != family)
    else:
        cost = draw(r, family, n, m)
    if device is None:
        return cost
    import torch

    return torch.from_numpy(cost).to(device)


class Case(NamedTuple):
    """A family at a shape; `problems` is 1 for a matrix, and batches are uniform."""

    family: str
    rows: int
    cols: int
    problems: int = 1

    @property
    def shape(self) -> str:
        """As tables show it."""
        batch = f"{self.problems} x " if self.problems > 1 else ""
        return f"{batch}{self.rows} x {self.cols}"

    def __str__(self) -> str:
        return f"{self.family} {self.shape}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """What `str` made."""
        found = re.fullmatch(r"(.+?) (?:(\d+) x )?(\d+) x (\d+)", text)
        if found is None:
            raise ValueError(f"a case is a family and a shape, n x m or B x n x m, got {text!r}")
        family, problems, n, m = found.groups()
        return cls(family, int(n), int(m), int(problems or 1))

    def make(self, seed: int, device: Any = None) -> Any:
        """The matrix, or the batch ``[B, n, m]``."""
        if self.problems == 1:
            return make(self.family, self.rows, self.cols, seed, device)
        shape = (self.problems, self.rows, self.cols)
        if device is None:
            return on_host(seed).floats(*shape)
        return OnDevice(seed + self.rows, device).floats(*shape)


BATCHES = [
    Case("uniform", n, m, problems)
    for problems, n, m in ((208, 300, 100), (208, 300, 300), (208, 300, 600), (10_000, 64, 64))
]
