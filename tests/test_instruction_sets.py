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


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(130, 33), (1100, 2500)])
def test_column_sums_are_the_same(shape, dtype):
    g = torch.Generator().manual_seed(0)
    values = (3.0 + torch.randn(shape, generator=g)).to(getattr(torch, dtype))
    wide = torch.promote_types(values.dtype, torch.float32)
    shift = torch.randn(shape[1], generator=g).to(wide)
    column_sums = getattr(_core, f"column_sums_{dtype}")

    def sums(about):
        found = torch.empty(2, shape[1], dtype=torch.float64)
        column_sums(
            values.data_ptr(), *shape, shape[1], about,
            found[0].data_ptr(), found[1].data_ptr(), _core.Threads(2),
        )  # fmt: skip
        return found

    for about in (0, shift.data_ptr()):
        first, *others = in_every_set(lambda about=about: sums(about))
        assert all(torch.equal(first, other) for other in others)
        exact = values.double() - (shift.double() if about else 0.0)
        assert torch.allclose(first, torch.stack([exact.sum(0), exact.square().sum(0)]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_folds_are_the_same(dtype):
    g = torch.Generator().manual_seed(0)
    products = torch.randn(33, 71, generator=g, dtype=getattr(torch, dtype))
    left, right = (torch.randn(2, d, generator=g, dtype=torch.float64) for d in (33, 71))
    before = torch.randn(33, 71, generator=g, dtype=torch.float64)

    def folded():
        comoment = before.clone()
        getattr(_core, f"fold_{dtype}")(
            comoment.data_ptr(), products.data_ptr(), 33, 71, left.data_ptr(), right.data_ptr(),
            _core.Threads(1),
        )  # fmt: skip
        return comoment

    first, *others = in_every_set(folded)
    assert all(torch.equal(first, other) for other in others)
    assert torch.allclose(first, before + products + left.T @ right)


def test_where_there_are_no_products_none_is_taken():
    _core.use("portable")
    assert not _core.multiplies_float32()
    assert not _core.multiplies_bfloat16()
    with pytest.raises(RuntimeError, match="no kernel for these products"):
        _core.multiply_float32(0, 0, 1, 1, 1, 1, 1, 0, _core.Threads(1))


def test_moments_follow_the_instruction_set():
    """Products are asked for anew: with a set that has none torch's take their place."""
    g = torch.Generator().manual_seed(0)
    target, source = torch.randn(2, 300, 20, generator=g)

    def correlation():
        moments = bmatch.CrossMoments(20, 20)
        moments.update(target, source)
        return moments.correlation()

    expected = torch.from_numpy(np.corrcoef(target.double().T, source.double().T)[:20, 20:])
    for found in in_every_set(correlation):
        assert (found - expected).abs().max() < 1e-6
