"""Updates beside the forward passes: their order and bounds, on streams that only keep a diary."""

from __future__ import annotations

import contextlib
import types

import pytest
import torch

from bmatch.background import BackgroundUpdates
from bmatch.moments import SiteMoments


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
            updates.room()
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
        updates.room()
        updates.add(y, x, torch.ones(50, dtype=torch.bool))
        assert m.count == 50
