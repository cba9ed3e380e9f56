"""Updates beside the forward passes: their order and bounds, on streams that only keep a diary; and
their results on a device that does everything late."""

from __future__ import annotations

import contextlib
import importlib
import types

import asynchronous
import pytest
import torch
import twins

from bmatch.correlation import by_kernels
from bmatch.correlation.background import BATCHES_HELD, BackgroundUpdates
from bmatch.correlation.site_moments import SiteMoments
from bmatch.kernels import reference


class Diary(list):
    """Stands in for a CUDA device: what would run on which stream, in order."""

    def stream(self, name):
        return types.SimpleNamespace(
            wait_stream=lambda other: self.append(f"{name} waits for {other.name}"),
            wait_event=lambda event: self.append(f"{name} waits for an event"),
            record_event=lambda: types.SimpleNamespace(
                synchronize=lambda: self.append(f"host waits for {name}")
            ),
            name=name,
        )

    def moments(self, broken=None):
        def finish(pending):
            if pending == broken:
                raise ValueError(f"batch {pending} is broken")
            self.append(f"finish {pending}")

        def begin(target, _source, _mask):
            self.append(f"begin {target.name}")
            return target.name

        return types.SimpleNamespace(device=torch.device("cuda"), begin=begin, finish=finish)

    def batch(self, name):
        return types.SimpleNamespace(name=name, record_stream=lambda stream: None)


@pytest.fixture
def diary(monkeypatch):
    diary = Diary()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: diary.stream("side"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: diary.stream("main"))
    return diary


def test_every_batch_is_added_while_the_next_is_made(diary):
    with BackgroundUpdates(diary.moments()) as updates:
        for name in "abc":
            updates.wait_for_room()
            diary.append(f"forward {name}")
            updates.add(*[diary.batch(name)] * 3)
    assert diary == [
        "side waits for main",
        "forward a", "side waits for an event", "begin a",
        "forward b", "finish a", "side waits for an event", "begin b",
        "host waits for side",  # a has been added before c needs room
        "forward c", "finish b", "side waits for an event", "begin c",
        "finish c", "main waits for side",
    ]  # fmt: skip


def test_a_broken_batch_is_told_one_batch_late_or_at_the_end(diary):
    updates = BackgroundUpdates(diary.moments(broken="a"))
    updates.add(*[diary.batch("a")] * 3)
    with pytest.raises(ValueError, match="batch a is broken"):
        updates.add(*[diary.batch("b")] * 3)
    assert "begin b" not in diary
    with (
        pytest.raises(ValueError, match="batch a is broken"),
        BackgroundUpdates(diary.moments(broken="a")) as updates,
    ):
        updates.add(*[diary.batch("a")] * 3)


def test_on_the_cpu_a_batch_is_added_at_once():
    m = SiteMoments((0,), 3, 3)
    y, x = torch.randn(2, 1, 50, 3, generator=torch.Generator().manual_seed(0))
    with BackgroundUpdates(m) as updates:
        updates.wait_for_room()
        updates.add(y, x, torch.ones(50, dtype=torch.bool))
        assert m.count == 50


SITES, TOKENS, D1, D2, BATCHES = 2, 40, 5, 3, 4
SEEDS = range(20)
STATE = ("comoment", "target_mean", "source_mean", "target_square", "source_square")


@pytest.fixture
def late(monkeypatch):
    """A device from its seed; what would be kernels are their twins in torch."""
    for module, name, twin in (
        ("pilot", "pilot_shifts", twins.pilot_shifts),
        ("centred", "column_sums", reference.column_sums),
        ("centred", "split_planes", reference.split_planes),
        ("batch_sums", "findings", reference.findings),
        ("batch_sums", "move", twins.move),
        (
            "cross_moments",
            "add_cross_moments",
            lambda products, y, x, promoted, factors: reference.add_cross_moments(
                products, y, x, factors
            ),
        ),
    ):
        monkeypatch.setattr(importlib.import_module(f"bmatch.kernels.{module}"), name, twin)
    monkeypatch.setattr(by_kernels, "runs_kernels", lambda device: True)
    monkeypatch.setattr("bmatch.kernels.dispatch._properties", lambda device: (90, 132))
    return lambda seed: asynchronous.device(seed, monkeypatch)


def batch(k):
    """Streams of a batch and its mask, on the host: [S, T, D1], [S, T, D2], [T]."""
    g = torch.Generator().manual_seed(k)
    y, x = (torch.randn(SITES, TOKENS, d, generator=g) for d in (D1, D2))
    return y + 5.0 * (k % 2), x, torch.rand(TOKENS, generator=g) < 0.8


def forward(k):
    """The same, made on the device, a site at a time."""
    y, x, mask = batch(k)
    made = [torch.empty(values.shape, device="cuda") for values in (y, x)]
    for s in range(SITES):
        for values, there in zip((y, x), made, strict=True):
            there[s] = values[s].to("cuda") * 2.0
    return *made, mask.to("cuda", non_blocking=True)


@torch.no_grad()
def stream(device, updates=BackgroundUpdates, own=False, reuse=False):
    """Statistics of some batches, as the host reads them, and the most memory of batches held."""
    m = SiteMoments(range(SITES), D1, D2, "cuda")
    maker = torch.cuda.Stream() if own else torch.cuda.current_stream()
    with updates(m) as background:
        for k in range(BATCHES):
            background.wait_for_room()
            with torch.cuda.stream(maker):
                given = forward(k)
                background.add(*given)
                if reuse:
                    given[0].zero_()
            del given
    # On the caller's stream, to which the moments belong again.
    return m.count, [getattr(m.statistics, name).mul(1.0).to("cpu") for name in STATE], device.peak


class AtOnce:
    """Adds batches on the caller's stream, each before the next is made."""

    def __init__(self, m):
        self._moments = m

    def wait_for_room(self):
        torch.cuda.current_stream().synchronize()

    def add(self, *given):
        self._moments.update(*given)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def expected(late):
    with late(0) as device:
        return stream(device, AtOnce)


def goes_wrong(late, expected, seed, **options):
    """Whether a seed shows that statistics are others, or memory of more batches was held."""
    try:
        with late(seed) as device:
            count, state, peak = stream(device, **options)
    except (ValueError, RuntimeError, IndexError):  # garbage that is refused, or no index
        return True
    same = all(torch.equal(a, b) for a, b in zip(state, expected[1], strict=True))
    return not same or count != expected[0] or peak > BATCHES_HELD * expected[2]


def test_a_late_device_gives_the_same_bits_in_the_memory_of_two_batches(late, expected):
    assert expected[0] == sum(int(batch(k)[2].sum()) for k in range(BATCHES))
    for s in range(SITES):
        pairs = [batch(k) for k in range(BATCHES)]
        y, x = (torch.cat([p[i][s, p[2]] for p in pairs]).double() * 2.0 for i in (0, 1))
        y, x = y - y.mean(0), x - x.mean(0)
        assert (expected[1][0][s] - y.T @ x).abs().max() < 1e-4 * len(y)
    assert not any(goes_wrong(late, expected, seed) for seed in SEEDS)


FAULTS = {
    "memory of which the allocator is not told": (asynchronous.DeviceTensor, "record_stream"),
    "batches that are read before they are made": (asynchronous.Stream, "wait_event"),
    "streams that do not wait for one another": (asynchronous.Stream, "wait_stream"),
    "findings that are read before they are there": (asynchronous.Event, "synchronize"),
    "a host that runs ahead": (BackgroundUpdates, "wait_for_room"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_caught(fault, late, expected, monkeypatch):
    monkeypatch.setattr(*FAULTS[fault], lambda *_: None)
    assert any(goes_wrong(late, expected, seed) for seed in SEEDS)


def test_batches_made_on_a_stream_of_their_own(late, expected, monkeypatch):
    """The background waits for the statistics, too, which the caller's stream has zeroed."""
    wait = asynchronous.Stream.wait_stream
    assert not any(goes_wrong(late, expected, seed, own=True) for seed in SEEDS)
    monkeypatch.setattr(
        asynchronous.Stream,
        "wait_stream",
        lambda stream, other: None if other is asynchronous.first_stream() else wait(stream, other),
    )
    assert any(goes_wrong(late, expected, seed, own=True) for seed in SEEDS)


def test_a_batch_that_is_written_to_after_it_was_handed_over_is_caught(late, expected):
    assert any(goes_wrong(late, expected, seed, reuse=True) for seed in SEEDS)


@torch.no_grad()
def test_a_broken_batch_is_named_late_and_nothing_of_it_is_added(late):
    for seed in SEEDS:
        with late(seed):
            m = SiteMoments((4, 9), D1, D2, "cuda")
            updates = BackgroundUpdates(m)
            updates.add(*forward(0))
            y, x, mask = forward(1)
            x[1, 17, 2] = float("nan")
            mask[:] = True
            updates.add(y, x, mask)
            with pytest.raises(
                ValueError, match=r"batch 1 .* source holds nan at site 9, counted token 17"
            ):
                updates.add(*forward(2))
            assert m.count == int(batch(0)[2].sum())
