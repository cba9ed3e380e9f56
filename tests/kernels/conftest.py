"""Tests in Triton's interpreter: CPU tensors, float64 oracles, NaN in all memory that is not input.

They need TRITON_INTERPRET=1 before Triton is imported, hence a process of their own, which
`tests/test_kernels.py` starts. To run one of them:
``TRITON_INTERPRET=1 pytest --confcutdir=tests/kernels tests/kernels -k name``.
"""

from __future__ import annotations

import os

import pytest
import torch
from interpreter import repair

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.exit("tests/kernels needs TRITON_INTERPRET=1 from the start", returncode=2)
repair()

_empty = torch.empty


def pytest_configure(config):
    """What NumPy thinks of the code of triton 3.6's interpreter is no fault of the kernels."""
    config.addinivalue_line("filterwarnings", "ignore:Conversion of an array:DeprecationWarning")


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """Fresh memory holds NaN: what a kernel fails to write shows."""

    def poisoned(*args, **kwargs):
        memory = _empty(*args, **kwargs)
        return memory.fill_(float("nan")) if memory.is_floating_point() else memory.fill_(-1)

    monkeypatch.setattr(torch, "empty", poisoned)
