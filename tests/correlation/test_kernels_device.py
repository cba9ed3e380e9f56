"""CrossMoments on a real GPU, against float64; `make gpu` runs these with compute-sanitizer too."""

from __future__ import annotations

import pytest
import torch
import twins

from bmatch import CrossMoments
from bmatch.correlation.background import BackgroundUpdates
from bmatch.correlation.site_moments import SiteMoments, moments_bytes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def by_size(shape):
    """Names by which benchmarks/gpu.sh chooses what is small enough for the sanitizer."""
    return "x".join(map(str, shape))


def streams(case, tokens, d1, d2, dtype):
    """Streams of a case and a mask or None, on the GPU."""
    g = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(tokens, d2, generator=g, device="cuda")
    y = torch.randn(tokens, d1, generator=g, device="cuda") * 0.5
    y += 0.7 * x[:, torch.arange(d1, device="cuda") % d2]
    mask = None
    if case == "mean ten":
        x, y = x + 10.0, y - 10.0
    elif case == "massive":
        x[::997, 1] = 25_000.0
        y[::997, :2] = -25_000.0
    elif case == "masked":
        mask = torch.rand(tokens, generator=g, device="cuda") < 0.6
        x[~mask] = float("nan")
    return y.to(dtype), x.to(dtype), mask


def exact(y, x, mask):
    """Correlations in float64 of the very same numbers, in chunks that fit."""
    if mask is not None:
        y, x = y[mask], x[mask]
    n, step = len(y), 65_536
    means = [sum(v[a : a + step].double().sum(0) for a in range(0, n, step)) / n for v in (y, x)]
    c = torch.zeros(y.shape[1], x.shape[1], dtype=torch.float64, device="cuda")
    squares = [torch.zeros(v.shape[1], dtype=torch.float64, device="cuda") for v in (y, x)]
    for a in range(0, n, step):
        p, q = (v[a : a + step].double() - m for v, m in zip((y, x), means, strict=True))
        c += p.T @ q
        squares[0] += p.square().sum(0)
        squares[1] += q.square().sum(0)
    return c / torch.outer(squares[0].sqrt(), squares[1].sqrt())


def error(case, tokens, d1, d2, dtype, precision="highest"):
    y, x, mask = streams(case, tokens, d1, d2, dtype)
    m = CrossMoments(d1, d2, "cuda", precision)
    m.update(y, x, mask)
    return float((m.correlation() - exact(y, x, mask)).abs().max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["random", "mean ten", "massive", "masked"])
@pytest.mark.parametrize(
    "shape", [(1000, 70, 130), (20_000, 513, 300), (20_000, 1024, 1030)], ids=by_size
)
def test_highest(shape, case, dtype):
    assert error(case, *shape, dtype) < 1e-6


@pytest.mark.parametrize(("precision", "bound"), [("high", 2e-5), ("medium", 1e-2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_stated_bounds(dtype, precision, bound):
    assert error("mean ten", 20_000, 512, 512, dtype, precision) < bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["random", "mean ten"])
def test_a_million_tokens(case, dtype):
    assert error(case, 1_000_000, 2048, 2048, dtype) < 1e-5


def test_the_same_bits_on_two_streams():
    y, x, _ = streams("random", 30_000, 300, 300, torch.bfloat16)
    torch.cuda.synchronize()
    results = []
    for _ in range(2):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            m = CrossMoments(300, 300, "cuda")
            for part in range(0, 30_000, 7000):
                m.update(y[part : part + 7000], x[part : part + 7000])
            results.append(m.correlation())
    torch.cuda.synchronize()
    assert torch.equal(*results)


def test_torch_settings_do_not_lower_the_precision():
    matmul = torch.backends.cuda.matmul
    # torch 2.9 and 2.10 warn of the older setting, earlier ones have no other. pytest's monkeypatch
    # cannot undo either: they are no attributes of the object's own.
    name, value = ("fp32_precision", "tf32")
    if not hasattr(matmul, name):
        name, value = ("allow_tf32", True)
    before = getattr(matmul, name)
    setattr(matmul, name, value)
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert error("random", 5000, 200, 200, torch.float32) < 1e-6
        assert getattr(matmul, name) == value
    finally:
        setattr(matmul, name, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 1000, 70), (31, 512, 576), (1, 17, 1024)], ids=by_size)
def test_shifts_are_medians_to_the_bit(shape, dtype):
    from bmatch.kernels.pilot import pilot_shifts

    y, x = sited(*shape, dtype)
    y[:, 3, 5], y[:, ::2, 6], x[:, :, 7] = float("nan"), float("inf"), -1e-30
    mask = torch.arange(shape[1], device="cuda") % 3 != 0
    for seen in (None, mask.cumsum(0)):
        expected = twins.pilot_shifts(y, x, seen, 256)
        assert torch.equal(pilot_shifts(y, x, seen, 256), expected)


def test_batches_of_other_lengths_compile_nothing():
    from bmatch.kernels import batch_sums, centred, cross_moments, partial_sums, pilot

    modules = (batch_sums, centred, cross_moments, partial_sums, pilot)
    kernels = [k for m in modules for name, k in vars(m).items() if name.endswith("_kernel")]
    assert len(kernels) == 7

    def compiled():
        return [len(places[0]) for kernel in kernels for places in kernel.device_caches.values()]

    m = SiteMoments(range(3), 65, 65, "cuda")
    counts = []
    for tokens in (512, 511, 300, 17, 1):
        y, x = (torch.randn(3, tokens, 65, device="cuda") + 9.0 for _ in range(2))
        m.update(y, x)
        counts.append(compiled())
    assert counts[0] == counts[-1]
    assert sum(counts[0]) >= len(kernels)


def test_strongest_is_the_scan_of_the_matrix():
    y, x, _ = streams("random", 5000, 700, 900, torch.bfloat16)
    m = CrossMoments(700, 900, "cuda")
    m.update(y, x)
    c, found = m.correlation(), m.strongest()
    assert torch.equal(found.correlation.abs(), c.abs().amax(1))
    assert torch.equal(found.runner_up, c.abs().topk(2, dim=1).values[:, 1])


def test_non_finite_input_is_refused():
    y, x, _ = streams("random", 5000, 20, 20, torch.bfloat16)
    y[4000, 3] = float("inf")
    with pytest.raises(ValueError, match="token 4000, coordinate 3"):
        CrossMoments(20, 20, "cuda").update(y, x)


def sited(sites, tokens, d, dtype):
    """Streams of different means at each site: [S, T, D] each."""
    drawn = [streams("random", tokens, d, d, torch.float32)[:2] for _ in range(sites)]
    means = 4.0 * torch.arange(sites, device="cuda")[:, None, None]
    return [(torch.stack(values) + means).to(dtype) for values in zip(*drawn, strict=True)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 1000, 70), (5, 500, 576), (2, 20_000, 1024)], ids=by_size)
def test_sites_are_moments_of_their_own_to_the_bit(shape, dtype):
    sites, tokens, d = shape
    y, x = sited(*shape, dtype)
    together = SiteMoments(range(sites), d, d, "cuda")
    for part in torch.arange(tokens).chunk(3):
        together.update(y[:, part[0] : part[-1] + 1], x[:, part[0] : part[-1] + 1])
    for s in range(sites):
        alone = CrossMoments(d, d, "cuda")
        for part in torch.arange(tokens).chunk(3):
            alone.update(y[s, part[0] : part[-1] + 1], x[s, part[0] : part[-1] + 1])
        assert torch.equal(together.correlation(s), alone.correlation())
        assert (together.correlation(s) - exact(y[s], x[s], None)).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_stream_gives_the_same_bits(dtype):
    """Batches made on one stream while the one before is added on another."""
    plain, beside = (SiteMoments(range(4), 300, 300, "cuda") for _ in range(2))
    mask = torch.arange(700, device="cuda") % 5 != 0

    def batch(k):
        y, x = sited(4, 700, 300, dtype)
        return y * (k + 1), x - k

    for k in range(6):
        plain.update(*batch(k), mask)
    with BackgroundUpdates(beside) as updates:
        for k in range(6):
            updates.wait_for_room()
            updates.add(*batch(k), mask)
    assert plain.count == beside.count
    for name in ("comoment", "target_mean", "source_mean", "target_square", "source_square"):
        assert torch.equal(*(getattr(m.statistics, name) for m in (plain, beside)))


def test_a_second_stream_names_the_broken_batch_and_adds_nothing_of_it():
    m = SiteMoments((0, 9), 20, 20, "cuda")
    y, x = sited(2, 500, 20, torch.float32)
    broken = x.clone()
    broken[1, 33, 7] = float("nan")
    mask = torch.ones(500, dtype=torch.bool, device="cuda")
    updates = BackgroundUpdates(m)
    updates.add(y, x, mask)
    updates.add(y, broken, mask)
    with pytest.raises(
        ValueError, match=r"batch 1 .* source holds nan at site 9, counted token 33"
    ):
        updates.add(y, x, mask)
    torch.cuda.synchronize()
    assert m.count == 500


def test_the_memory_stated_is_not_exceeded():
    sites, tokens, d = 8, 2048, 512
    y, x = sited(sites, tokens, d, torch.float32)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    m = SiteMoments(range(sites), d, d, "cuda")
    for _ in range(3):
        m.update(y, x)
    peak = torch.cuda.max_memory_allocated() - before
    assert peak <= moments_bytes(sites, d, d, tokens, m.device) * 1.05  # blocks are rounded up


def test_two_models_give_the_bits_of_one_batch_at_a_time():
    """The whole job: forward passes, streams and moments, with and without the second stream."""
    from tiny_models import noisy_copy, tiny_model

    from bmatch.streams import correlate_streams

    model = tiny_model().cuda()
    other = noisy_copy(tiny_model(), 0.1, 1).cuda()
    g = torch.Generator().manual_seed(0)
    batches = [torch.randint(300, (4, 64), generator=g) for _ in range(5)]
    beside = correlate_streams(other, model, batches)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BackgroundUpdates, "add", lambda self, *batch: self._moments.update(*batch))
        plain = correlate_streams(other, model, batches)
    assert torch.equal(beside.correlation, plain.correlation)
