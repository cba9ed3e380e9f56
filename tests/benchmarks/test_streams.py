"""benchmarks/correlation.py on small streams: what it measures, writes and tells."""

from __future__ import annotations

import pytest
import torch

from benchmarks import correlation, results
from benchmarks.correlation import Case


@pytest.fixture
def small(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(correlation, "QUICK_SHAPES", {"cpu": ((16, 256),)})
    for name, size in (("SITES", 3), ("SITE_DIM", 16), ("SITE_TOKENS", 32)):
        monkeypatch.setattr(correlation, name, size)
    yield
    torch.set_num_threads(threads)


def test_a_run_on_the_cpu(small, tmp_path):
    correlation.main(["--quick", "--device", "cpu", "--out", str(tmp_path)])
    rows = results.read("correlation", tmp_path)
    of_streams = {(dtype, threads) for dtype in ("bfloat16", "float32") for threads in (1, 2)}
    read = {case: Case.parse(case) for case in dict.fromkeys(row.case for row in rows)}
    assert all(str(case) == text for text, case in read.items())
    assert {(c.dtype, c.threads) for c in read.values() if c.sites == 1} == of_streams
    assert sorted(c.threads for c in read.values() if c.sites == 3) == [1, 2]
    errors = {(row.case, row.provider): row.value for row in rows if row.metric == "error"}
    assert max(v for (_, name), v in errors.items() if name == "bmatch highest") < 1e-6
    assert not {name for _, name in errors} & {"matmul", "product"}
    clocks = {read[row.case].threads: row.extra["clock"] for row in rows}
    assert clocks == {1: "processor", 2: "wall"}

    lines = correlation.table(rows)
    head = "| threads | dtype | D | T | matmul, GFLOP/s | bmatch highest | bmatch high |"
    assert any(line.startswith(head) for line in lines)
    assert sum(line.startswith("| 1 | bfloat16 | 16 | 256 |") for line in lines) == 1
    assert sum(line.startswith("| 2 | 3 | 16 | 32 |") for line in lines) == 1


def test_work_is_that_of_the_products():
    assert Case("float32", 16, 256, 1).operations == 2 * 256 * 16 * 16
    assert Case("float32", 16, 256, 1, 3).operations == 3 * 2 * 256 * 16 * 16


def test_what_finds_no_memory_says_so(small, tmp_path, monkeypatch):
    def dense(y, x):
        raise torch.OutOfMemoryError("too large")

    monkeypatch.setitem(correlation.PROVIDERS, "dense", dense)
    correlation.main(["--quick", "--device", "cpu", "--out", str(tmp_path), "--repeats", "1"])
    failed = [row for row in results.read("correlation", tmp_path) if row.provider == "dense"]
    assert [row.extra["failed"] for row in failed] == ["out of memory"] * 4
    table = correlation.table(results.read("correlation", tmp_path))
    (line,) = (line for line in table if line.startswith("| 1 | float32 | 16 |"))
    assert line.split(" | ")[-2] == "-"
