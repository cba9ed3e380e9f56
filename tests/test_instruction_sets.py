"""The dispatch over instruction sets: by name in process, and by BMATCH_ISA at load."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import bmatch
from bmatch import _core
from bmatch.correlation import chunks

SETS = _core.instruction_sets()


@pytest.fixture(autouse=True)
def _as_before():
    before = _core.instruction_set()
    yield
    _core.use(before)


def in_every_set(compute):
    """What is computed with each of them, first the best."""
    answers = []
    for name in SETS:
        _core.use(name)
        assert _core.instruction_set() == name
        answers.append(compute())
    return answers


def loaded(isa):
    """What an interpreter finds that loads bmatch under BMATCH_ISA, and its warnings."""
    run = subprocess.run(
        [sys.executable, "-c", "from bmatch import _core; print(_core.instruction_set())"],
        env={**os.environ, "BMATCH_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip(), run.stderr


def test_the_best_comes_first_and_every_machine_has_one():
    order = ["avx512", "avx2", "portable"]
    assert sorted(SETS, key=order.index) == SETS
    assert SETS[-1] == "portable"


def test_an_unknown_name_is_refused_and_changes_nothing():
    before = _core.instruction_set()
    with pytest.raises(ValueError, match=r"this machine can run \(.*portable\), got 'avx9000'"):
        _core.use("avx9000")
    assert _core.instruction_set() == before


def test_the_environment_chooses_at_load():
    for name in SETS:
        assert loaded(name) == (name, "")
    assert loaded("") == (SETS[0], "")
    used, warnings = loaded("avx9000")
    assert used == SETS[0]
    assert (
        "RuntimeWarning: BMATCH_ISA: the instruction set must be one that this machine can run "
        f"({', '.join(SETS)}), got 'avx9000'; {SETS[0]} is used" in warnings
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_assignments_and_duals_are_the_same(dtype):
    r = np.random.default_rng(0)
    for cost in (r.random((500, 500)), r.integers(0, 9, (70, 90))):
        cost = cost.astype(dtype)
        first, *others = in_every_set(lambda cost=cost: bmatch.solve(cost))
        for other in others:
            for name in ("col_of_row", "row_dual", "col_dual"):
                assert np.array_equal(getattr(first, name), getattr(other, name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(130, 33), (1100, 2500)])
def test_column_sums_are_the_same(shape, dtype):
    g = torch.Generator().manual_seed(0)
    values = (3.0 + torch.randn(shape, generator=g)).to(dtype)
    shift = torch.randn(shape[1], generator=g).to(torch.promote_types(dtype, torch.float32))
    for about in (None, shift):
        first, *others = in_every_set(
            lambda about=about: chunks._sums(values, about, _core.Threads(2))
        )
        for other in others:
            assert torch.equal(first.total, other.total)
            assert torch.equal(first.square, other.square)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_folds_are_the_same(dtype):
    g = torch.Generator().manual_seed(0)
    products = torch.randn(33, 71, generator=g, dtype=dtype)
    left, right = (torch.randn(2, d, generator=g, dtype=torch.float64) for d in (33, 71))
    before = torch.randn(33, 71, generator=g, dtype=torch.float64)

    def folded():
        comoment = before.clone()
        chunks.fold(comoment, products, left, right, _core.Threads(1))
        return comoment

    first, *others = in_every_set(folded)
    assert all(torch.equal(first, other) for other in others)


def test_where_there_are_no_products_torch_takes_them():
    _core.use("portable")
    assert not _core.multiplies_float32()
    assert not _core.multiplies_bfloat16()
    with pytest.raises(RuntimeError, match="no kernel for these products"):
        _core.multiply_float32(0, 0, 1, 1, 1, 1, 1, 0, _core.Threads(1))
    g = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 100, 7, generator=g)  # torch's product in their place
    products = chunks.multiply(left, right, _core.Threads(1))
    assert (products - left.double().T @ right.double()).abs().max() < 1e-4
