"""Figures of a job as it goes: lines of JSON, and TensorBoard's events, read as bytes."""

from __future__ import annotations

import json
import struct
import sys
from contextlib import closing

import pytest
from disks import disk

from bmatch.jobs import events
from bmatch.jobs.metrics import Metrics, followed
from bmatch.jobs.pace import Pace
from bmatch.jobs.progress import silent

LIBRARIES = {"tensorboard": "_tensorboardx", "tensorboardX": "_tensorboard"}
"""And where the other is loaded."""


@pytest.fixture(params=LIBRARIES)
def _library(request, monkeypatch):
    """One of them alone."""

    def missing():
        raise ModuleNotFoundError

    pytest.importorskip(request.param)
    monkeypatch.setattr(events, LIBRARIES[request.param], missing)


def records(folder):
    """The records of a folder's event files: length, its checksum, bytes, their checksum."""
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield content[12 : 12 + length]
            content = content[16 + length :]


def events_of(folder):
    """(step, tag, number or None for text) of every value."""
    protocol = pytest.importorskip("tensorboardX.proto.event_pb2")
    for record in records(folder):
        event = protocol.Event.FromString(record)
        for value in event.summary.value:
            number = value.simple_value if value.HasField("simple_value") else None
            yield event.step, value.tag, number


@pytest.mark.parametrize("content", [b"{", b"[1]", b"3", b"\x80abc\n", b'{"a": 1}\n', b"[" * 9999])
def test_a_file_that_is_something_else_stays_as_it_is(tmp_path, content):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ValueError, match="something else than metrics in it"):
        Metrics(print, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == content


def test_metrics_are_added_to_metrics(tmp_path):
    for _ in range(2):
        Metrics(print, tmp_path / "m").add({"a": 1})
    assert (tmp_path / "m").read_text().count('"a": 1') == 2


def test_a_file_that_takes_no_more_ends_the_metrics_and_not_the_job(tmp_path):
    told = []
    pace = Pace(100, told.append, Metrics(told.append, tmp_path / "m"))
    pace(0)
    pace(50)
    lines = (tmp_path / "m").read_text().splitlines()
    assert len(lines) == 2
    assert '"tokens": 50, "tokens_total": 100' in lines[1]
    (tmp_path / "m").unlink()
    (tmp_path / "m").mkdir()
    pace(60)
    pace(70)
    assert len(told) == 1


def test_a_place_that_cannot_be_written_is_told_before_anything_is_done(tmp_path):
    with pytest.raises(IsADirectoryError):
        Metrics(print, tmp_path)
    with pytest.raises(FileNotFoundError):
        Metrics(print, tmp_path / "none" / "m")


def test_items_that_are_followed(tmp_path):
    with closing(Metrics(print, tmp_path / "m")) as metrics:
        follow = followed(silent, metrics)
        assert list(follow([3, 1, 4], "Hops")) == [3, 1, 4]
        assert list(follow([], "None")) == []
    lines = [json.loads(line) for line in (tmp_path / "m").read_text().splitlines()]
    assert [(line["stage"], line["done"], line["total"]) for line in lines] == [
        ("Hops", done, 3) for done in (1, 2, 3)
    ]
    assert lines[-1]["seconds_left"] == 0


@pytest.mark.usefixtures("_library")
def test_events_are_the_lines(tmp_path):
    file, folder = tmp_path / "m", tmp_path / "events"
    with closing(Metrics(pytest.fail, file, folder)) as metrics:
        pace = Pace(100, pytest.fail, metrics)
        pace(0)
        pace(64)
        list(followed(silent, metrics)("ab", "Hops"))
        metrics.add({"verdict": "related"})
    found = list(events_of(folder))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    expected = []
    for line, step in zip(lines, (0, 64, 1, 2, 2), strict=True):
        stage = line.pop("stage", None)
        for name, value in line.items():
            tag = name if stage is None else f"{stage}/{name}"
            if isinstance(value, str):
                expected.append((step, f"{tag}/text_summary", None))
            elif value is not None:
                expected.append((step, tag, pytest.approx(value, rel=1e-6)))
    assert len(expected) > 15
    assert found == expected


@pytest.mark.usefixtures("_library")
def test_a_full_disk_ends_the_events_and_not_the_job(tmp_path):
    told = []
    with disk(tmp_path / "full", 8192):
        with closing(Metrics(told.append, None, tmp_path / "full" / "events")) as metrics:
            for step in range(500):
                metrics.add({"tokens": step}, step)
        assert len(list(records(tmp_path / "full"))) > 50
    (sentence,) = told
    assert "events takes no more metrics (No space left on device)" in sentence


def test_without_a_writer_it_is_a_sentence(tmp_path, monkeypatch):
    for name in ("tensorboard", "torch.utils.tensorboard", "tensorboardX.record_writer"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match="neither is installed: pip install tensorboard"):
        Metrics(print, None, tmp_path / "events")
    assert not (tmp_path / "events").exists()
