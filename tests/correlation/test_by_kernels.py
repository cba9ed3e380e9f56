"""What the host makes of the kernels' findings; the kernels are held against float64 elsewhere."""

from __future__ import annotations

import pytest
import torch

from bmatch.correlation import by_kernels
from bmatch.correlation.batch import Batch
from bmatch.correlation.by_kernels import Findings, KernelSums


def test_findings_as_the_device_writes_them():
    """Two blocks of channels a site."""
    sums = torch.zeros(2, 2, 3, dtype=torch.float64)
    largest, shifted = [3.0, 4.0, torch.inf, 1.0], [0.0, 0.0, 0.0, 1.0]
    sent = torch.tensor([*largest, *shifted, 2.0**40], dtype=torch.float64)
    found = KernelSums(torch.zeros(2, 3), sums, sent, None).read()
    assert found == Findings([4.0, torch.inf], [False, True], 2**40)


@pytest.mark.parametrize(
    ("largest", "shifted", "beyond", "groups"),
    [
        ([1.0, 2.0, 3.0], [True, True, True], [], [(0, 3)]),
        ([1.0, 2.0, 3.0], [False, True, True], [], [(0, 1), (1, 2), (2, 3)]),
        ([1.0, 1e31, 3.0], [False, False, False], [1], [(0, 1), (2, 3)]),
        ([float("inf")], [True], [0], []),
        ([float("nan"), 1e30], [False, False], [0], [(1, 2)]),
    ],
)
def test_sites_are_added_together_where_one_launch_serves_them(largest, shifted, beyond, groups):
    found = Findings(largest, shifted, 1)
    assert found.beyond() == beyond
    assert found.groups() == [slice(*group) for group in groups]


def test_batches_that_the_kernels_take(monkeypatch):
    y = torch.ones(1, 4, 2)
    assert not by_kernels.takes(Batch(y, y, None))
    monkeypatch.setattr(by_kernels, "runs_kernels", lambda device: True)
    assert by_kernels.takes(Batch(y, y.bfloat16(), None))
    assert not by_kernels.takes(Batch(y, y.double(), None))
    assert not by_kernels.takes(Batch(y[:, :0], y[:, :0], None))
