"""benchmarks/weights.py on models that were hardly trained: what it measures and tells."""

from __future__ import annotations

import pytest
import torch

from benchmarks import results, weights


@pytest.fixture
def hardly_trained(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(weights, "SEPARATING", weights.SEPARATING._replace(base_steps=4))
    yield
    torch.set_num_threads(threads)


def test_fine_tunes(hardly_trained, tmp_path):
    options = ["--noises", "--seeds", "3", "--steps", "1", "2", "--out", str(tmp_path)]
    weights.main(options)
    rows = results.read("weights", tmp_path)
    shares = {(row.case, row.provider): row.value for row in rows if row.metric == "recovered"}
    cases = [f"fine-tunes, seed 3, {step} steps" for step in (1, 2)]
    assert shares.keys() == {(case, read) for case in cases for read in weights.READ}
    assert all(shares[case, "weights"] == 1.0 for case in cases)
    lines = weights.table(rows)
    assert lines[2] == "| models | tokens read | activations | weights | weights, renumbered |"
    assert [line.split(" | ")[0] for line in lines[4:]] == [f"| {case}" for case in cases]
    assert all(" | 64 | " in line for line in lines[4:])
