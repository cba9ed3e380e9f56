"""CrossMoments on its kernels, whole: correlations against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data import CASES, streams

from bmatch import CrossMoments
from bmatch.correlation import by_kernels
from bmatch.correlation.site_moments import SiteMoments
from bmatch.kernels import dispatch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def kernels_on_the_cpu(monkeypatch):
    monkeypatch.setattr(by_kernels, "runs_kernels", lambda device: True)


def reference(y, x, mask=None):
    """numpy.corrcoef in float64 of the very same numbers, 0 where it is not defined."""
    kept = slice(None) if mask is None else mask
    y, x = y[kept].double().numpy(), x[kept].double().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        c = np.corrcoef(y.T, x.T)[: y.shape[1], y.shape[1] :]
    c[np.ptp(y, 0) == 0] = 0.0
    c[:, np.ptp(x, 0) == 0] = 0.0
    return torch.from_numpy(c)


def largest_error(case, dtype, precision, tokens=260, batches=2):
    """By default two batches of two blocks of tokens and a ragged one."""
    y, x, mask = streams(case, tokens, 37, 20, dtype)
    m = CrossMoments(37, 20, precision=precision)
    for part in torch.arange(tokens).chunk(batches):
        m.update(y[part[0] : part[-1] + 1], x[part[0] : part[-1] + 1],
                 None if mask is None else mask[part])  # fmt: skip
    return float((m.correlation() - reference(y, x, mask)).abs().max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_highest(case, dtype):
    assert largest_error(case, dtype, "highest") < 1e-6


@pytest.mark.parametrize("case", ["random", "masked"])
def test_highest_without_descriptors(case, monkeypatch):
    monkeypatch.setattr(dispatch, "_WITHOUT_GPU", (80, 108))
    for dtype in DTYPES:
        assert largest_error(case, dtype, "highest") < 1e-6


@pytest.mark.parametrize(("precision", "bound"), [("high", 2e-5), ("medium", 1e-2)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_the_stated_bounds(case, dtype, precision, bound):
    assert largest_error(case, dtype, precision) < bound


@pytest.mark.parametrize(
    ("precision", "bound"), [("highest", 1e-6), ("high", 2e-5), ("medium", 1e-2)]
)
def test_few_tokens(precision, bound):
    """Two or ten tokens do not average roundings away: the bounds hold all the same."""
    for tokens in (2, 3, 10):
        assert largest_error("mean ten", torch.float32, precision, tokens, 1) < bound


def test_sixteen_bit_streams_without_means_are_read_in_place(monkeypatch):
    y, x, _ = streams("random", 300, 8, 8, torch.bfloat16)
    monkeypatch.setattr("bmatch.kernels.centred.split_planes", None)
    for precision in ("highest", "medium"):
        m = CrossMoments(8, 8, precision=precision)
        m.update(y, x)
        assert (m.correlation() - reference(y, x)).abs().max() < 1e-6


def test_chunks_flush_into_the_masters(monkeypatch):
    monkeypatch.setattr(by_kernels, "_CHUNK_TOKENS", 256)
    monkeypatch.setattr(by_kernels, "_PROMOTED_TOKENS", 64)
    monkeypatch.setattr(dispatch, "_WITHOUT_GPU", (90, 5))  # 5 parts of one tile: 320 tokens
    for dtype in (torch.float32, torch.bfloat16):
        assert largest_error("random", dtype, "highest", 400) < 1e-6
        assert largest_error("masked", dtype, "highest", 400, 1) < 1e-6


def test_any_split_and_any_order_of_merging_give_the_same(tmp_path):
    y, x, _ = streams("mean ten", 300, 9, 7, torch.float32)
    whole = CrossMoments(9, 7)
    whole.update(y, x)
    merged = CrossMoments(9, 7)
    for part in (slice(200, 300), slice(0, 70), slice(70, 200)):
        piece = CrossMoments(9, 7)
        piece.update(y[part], x[part])
        piece.save(tmp_path / "piece")
        merged.merge(CrossMoments.load(tmp_path / "piece"))
    assert merged.count == 300
    assert (merged.correlation() - whole.correlation()).abs().max() < 2e-7


def test_torch_settings_do_not_lower_the_precision():
    y, x, _ = streams("random", 300, 9, 7, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        m = CrossMoments(9, 7)
        m.update(y, x)
    assert (m.correlation() - reference(y, x)).abs().max() < 1e-6


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_input_is_refused_and_nothing_added(value):
    y, x, _ = streams("random", 300, 9, 7, torch.float32)
    m = CrossMoments(9, 7)
    bad = y.clone()
    bad[200, 3] = value
    with pytest.raises(ValueError, match=r"batch 0 .* target holds .* token 200, coordinate 3"):
        m.update(bad, x)
    m.update(y, x)
    before = m.correlation()
    with pytest.raises(ValueError, match="batch 1"):
        m.update(bad, x)
    assert m.count == 300
    assert torch.equal(m.correlation(), before)


@pytest.mark.filterwarnings("ignore:overflow")  # how the kernels see that they do not reach
def test_wide_values_and_float64_go_in_float64():
    y, x, _ = streams("random", 200, 5, 5, torch.float32)
    for scaled in ((y * 1e30, x * 1e25), (y.double(), x.double())):
        m = CrossMoments(5, 5)
        m.update(*scaled)
        assert (m.correlation() - reference(*scaled)).abs().max() < 1e-6


def test_empty_batches():
    m = CrossMoments(3, 3)
    m.update(torch.ones(0, 3), torch.ones(0, 3))
    m.update(torch.ones(4, 3), torch.ones(4, 3), torch.zeros(4, dtype=torch.bool))
    assert m.count == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_odd_first_batch_of_one_token_does_not_matter(dtype):
    y, x, _ = streams("random", 300, 5, 5, dtype)
    y[0], x[0, 2] = 25_000.0, 25_000.0
    m = CrossMoments(5, 5)
    for start, stop in [(0, 1), (1, 2), (2, 50), (50, 300)]:
        m.update(y[start:stop], x[start:stop])
    assert (m.correlation() - reference(y, x)).abs().max() < 1e-6


def test_strongest_is_the_scan_of_the_matrix():
    y, x, _ = streams("random", 300, 37, 20, torch.float32)
    m = CrossMoments(37, 20)
    m.update(y, x)
    c, found = m.correlation(), m.strongest()
    top = c.abs().topk(2, dim=1)
    assert torch.equal(found.source, top.indices[:, 0])
    assert torch.equal(found.correlation, c.gather(1, found.source[:, None])[:, 0])
    assert torch.equal(found.runner_up, top.values[:, 1])


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sites_share_launches_and_nothing_else(dtype):
    """One site with means, one without, one too wide for the kernels: each as if it were alone."""
    drawn = [streams(case, 130, 9, 7, dtype, seed=s) for s, case in enumerate(CASES[:3])]
    y, x = (torch.stack([pair[k] for pair in drawn]) for k in (0, 1))
    if dtype == torch.bfloat16:
        y[2], x[2] = y[2] * 1e30, x[2] * 1e25
    together = SiteMoments((0, 8, 16), 9, 7)
    for part in (slice(0, 60), slice(60, 130)):
        together.update(y[:, part], x[:, part])
    for s in range(3):
        alone = CrossMoments(9, 7)
        for part in (slice(0, 60), slice(60, 130)):
            alone.update(y[s, part], x[s, part])
        assert torch.equal(together.correlation(s), alone.correlation())
        assert (alone.correlation() - reference(y[s], x[s])).abs().max() < 1e-6


@pytest.mark.parametrize(("dtype", "masked"), [(torch.float32, True), (torch.bfloat16, False)])
def test_one_launch_serves_all_sites(dtype, masked, launches):
    """However many sites there are, a batch takes the same few launches, and nothing of torch's."""
    counts = []
    for sites in (1, 4):
        y, x = torch.randn(2, sites, 64, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
        mask = torch.arange(64) % 3 != 0 if masked else None
        moments = SiteMoments(range(sites), 8, 8)
        with launches:
            moments.update(y, x, mask)
        counts.append(launches.taken())
    assert counts[0] == counts[1]
    split = ["split_planes_kernel"] if dtype == torch.float32 else []
    assert counts[0] == [
        *(["cumsum"] if masked else []),
        "pilot_kernel",
        "column_sums_kernel",
        "findings_kernel",
        "move_kernel",
        *split, "cross_moments_kernel", "partial_sums_kernel",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_batch_on_its_way_is_not_added_before_it_is_finished():
    y, x = torch.randn(2, 2, 100, 5, generator=torch.Generator().manual_seed(0))
    m = SiteMoments((3, 7), 5, 5)
    pending = m.begin(y, x)
    assert m.count == 0
    assert not m.statistics.comoment.any()
    m.finish(pending)
    assert m.count == 100
    before = m.statistics.comoment.clone()
    bad = y.clone()
    bad[1, 40, 2] = float("nan")
    pending = m.begin(bad, x)
    with pytest.raises(
        ValueError, match=r"batch 1 .* target holds nan at site 7, counted token 40"
    ):
        m.finish(pending)
    assert m.count == 100
    assert torch.equal(m.statistics.comoment, before)
