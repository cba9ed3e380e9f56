"""benchmarks/ranks.py: what a job of several ranks took, and other bytes are a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import ranks, results


def test_a_job_of_two_ranks_writes_what_one_does(tmp_path):
    command = ranks._activations(tmp_path, 0.05)
    (alone, one), (shared, two) = (
        ranks.once(command, count, tmp_path, ".safetensors") for count in (1, 2)
    )
    assert one == two
    for figures in (alone, shared):
        assert 0 < figures["shared"] < figures["time"]
        assert figures["processor"] > 0


@pytest.mark.parametrize("differ", [False, True])
def test_rows_and_their_table(tmp_path, monkeypatch, differ):
    def once(_command, count, _folder, _suffix):
        figures = {"shared": 8 / count, "time": 10 / count, "processor": 9.0}
        return figures, bytes(count if differ else 1)

    monkeypatch.setattr(ranks, "once", once)
    monkeypatch.setattr(ranks, "JOBS", {"a job": (lambda *_: [], "")})
    arguments = ["--rounds", "1", "--out", str(tmp_path)]
    if differ:
        with pytest.raises(AssertionError, match="2 ranks write other bytes"):
            ranks.main(arguments)
        return
    ranks.main(arguments)
    lines = ranks.table(results.read("ranks", Path(tmp_path)))
    assert lines[-3:] == [
        "| a job | 1 | 8.00 | 10.00 | 9.00 |",
        "| a job | 2 | 4.00 | 5.00 | 9.00 |",
        "| a job | 4 | 2.00 | 2.50 | 9.00 |",
    ]
