"""The watch itself: planted faults are told, and no order of programs changes a bit."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
import watched
from data import streams, surrounded
from watched import Trespass

from bmatch.correlation import by_kernels
from bmatch.correlation.site_moments import SiteMoments
from bmatch.kernels import batch_sums, centred, finalise, partial_sums, row_scan
from bmatch.kernels.centred import column_sums
from bmatch.kernels.partial_sums import add_partial_sums


@triton.jit
def double_kernel(p_in, p_out, N, EXTRA: tl.constexpr, STEP: tl.constexpr, BLOCK: tl.constexpr):
    """Twice the input; too much is read or written, or written twice, as the constants say."""
    o = tl.program_id(0) * STEP + tl.arange(0, BLOCK)
    b = tl.load(p_in + o, mask=o < N, other=0.0)
    tl.store(p_out + o, 2.0 * b, mask=o < N + EXTRA)


@triton.jit
def shift_kernel(p, N, BY: tl.constexpr, BLOCK: tl.constexpr):
    """In place each number becomes the one BY further on, which may be another program's."""
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.load(p + o + BY, mask=o + BY < N, other=0.0)
    tl.store(p + o, b, mask=o < N)


@triton.jit
def total_kernel(p_in, p_out, N: tl.constexpr):
    tl.store(p_out, tl.sum(tl.load(p_in + tl.arange(0, N)), 0))


def test_what_is_right_passes():
    values, out = torch.arange(20.0), torch.empty(20)
    double_kernel[(3,)](values, out, 20, EXTRA=0, STEP=8, BLOCK=8)
    assert torch.equal(out, 2 * values)
    shift_kernel[(3,)](values, 20, BY=0, BLOCK=8)


def test_a_grid_one_too_small_leaves_poison():
    out = torch.empty(20)
    double_kernel[(2,)](torch.arange(20.0), out, 20, EXTRA=0, STEP=8, BLOCK=8)
    assert watched.is_poison(out).tolist() == [False] * 16 + [True] * 4
    with pytest.raises(Trespass, match="total_kernel: program 0 reads unwritten memory"):
        total_kernel[(1,)](out[4:], torch.empty(1), N=16)


def test_a_mask_that_is_one_off():
    with pytest.raises(Trespass, match=r"program 2 touches memory of no tensor, at 1 addresses"):
        double_kernel[(3,)](torch.arange(20.0), torch.empty(20), 20, EXTRA=1, STEP=8, BLOCK=8)


def test_memory_beside_a_view_is_no_part_of_it():
    """Columns of a wider matrix: the memory is there, and belongs to nobody."""
    out = torch.empty(3, 8)[1, :5]
    with pytest.raises(Trespass, match=r"touches memory of no tensor, at 1 addresses"):
        double_kernel[(1,)](torch.arange(6.0), out, 6, EXTRA=0, STEP=8, BLOCK=8)
    values = surrounded(torch.ones(1, 5))[0]
    with pytest.raises(Trespass, match=r"touches memory of no tensor, at 1 addresses"):
        double_kernel[(1,)](values, torch.empty(6), 6, EXTRA=0, STEP=8, BLOCK=8)


def test_two_programs_with_one_tile():
    with pytest.raises(Trespass, match="writes what another program writes"):
        double_kernel[(3,)](torch.arange(20.0), torch.empty(20), 20, EXTRA=0, STEP=7, BLOCK=8)


@pytest.mark.parametrize("put", [lambda programs: None, list.reverse])
def test_what_another_program_changes(put, monkeypatch):
    """Whichever of the two comes first."""
    monkeypatch.setattr(watched, "order", put)
    with pytest.raises(Trespass, match=r"(reads|writes) what another program (reads|writes)"):
        shift_kernel[(2,)](torch.arange(16.0), 16, BY=1, BLOCK=8)


def test_guards_tell_what_the_watch_does_not_see():
    memory = watched.Memory()
    out = memory(4, 2, dtype=torch.bfloat16)
    out.fill_(0.0)
    assert memory.intact()
    out.as_strided((1,), (1,), out.storage_offset() + 8).fill_(0.0)
    assert not memory.intact()


def test_a_launcher_with_a_grid_too_small(monkeypatch):
    """Real kernels: the last block of columns is forgotten."""
    monkeypatch.setattr(partial_sums, "_BLOCK_W", 128)
    partial = torch.ones(1, 2, 3, 60)
    for module in (partial_sums, centred):
        monkeypatch.setattr(module, "cdiv", lambda a, b: max(1, a // b))
    total = torch.zeros(1, 3, 60, dtype=torch.float64)
    add_partial_sums(total, partial)
    assert not total[0, 2, 8:].any()
    values, shift = torch.ones(1, 8, 200), torch.zeros(1, 400)
    with pytest.raises(Trespass, match=r"findings_kernel: .* reads unwritten memory"):
        batch_sums.findings(column_sums(values, values, shift), shift, None, 8)


def test_a_launcher_with_one_shift_too_few():
    values = torch.ones(2, 8, 20)
    with pytest.raises(Trespass, match=r"column_sums_kernel: .* touches memory of no tensor"):
        column_sums(values, values, torch.zeros(2, 40)[:1].expand(2, 40)[:, 1:])


def test_every_order_gives_the_same_bits(monkeypatch):
    """All kernels, their programs in order, in reverse and shuffled."""
    monkeypatch.setattr(by_kernels, "runs_kernels", lambda device: True)
    monkeypatch.setattr(centred, "_STEPS", 2)  # 32 tokens a program: more of them
    given = [streams("random", 70, 70, 33, torch.float32, seed=s) for s in range(2)]
    y, x = (torch.stack([pair[k] for pair in given]) for k in (0, 1))
    mask = torch.arange(70) % 7 != 2
    cost = torch.randn(9, 300, generator=torch.Generator().manual_seed(0))

    def run():
        m = SiteMoments((0, 1), 70, 33)
        m.update(y, x, mask)
        m.update(y + 9.0, x)
        correlations = [m.correlation(s) for s in range(2)]
        kept = m.statistics
        found = [*m.strongest(1), *finalise.strongest(kept.comoment[0], *kept.scales(0))]
        return [kept.comoment, kept.target_mean, kept.source_square, *correlations, *found,
                *row_scan.scan_rows(cost, 0, 32)]  # fmt: skip

    results = []
    for put in (lambda programs: None, list.reverse, watched.shuffled):
        monkeypatch.setattr(watched, "order", put)
        results.append(run())
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
