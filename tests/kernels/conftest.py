"""Tests in Triton's interpreter: CPU tensors, float64 oracles, launches watched by `watched`.

They need TRITON_INTERPRET=1 before Triton is imported, hence a process of their own, which
`tests/test_kernels.py` starts. To run one of them:
``TRITON_INTERPRET=1 pytest --confcutdir=tests/kernels tests/kernels -k name``.
"""

from __future__ import annotations

import os
import zlib

import pytest
import torch
import watched
from interpreter import repair
from torch.utils._python_dispatch import TorchDispatchMode

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.exit("tests/kernels needs TRITON_INTERPRET=1 from the start", returncode=2)
repair()


def pytest_configure(config):
    """What NumPy thinks of the code of triton 3.6's interpreter is no fault of the kernels."""
    config.addinivalue_line("filterwarnings", "ignore:Conversion of an array:DeprecationWarning")


@pytest.fixture(autouse=True)
def watched_launches(monkeypatch, request):
    """Fresh memory is poisoned and guarded, programs run in an order of the test's own."""
    memory = watched.Memory()
    monkeypatch.setattr(torch, "empty", memory)
    watched.install(zlib.crc32(request.node.name.encode()))
    yield
    assert memory.intact()


class Launches(TorchDispatchMode):
    """What a device would run: kernels by name, and those operations of torch that are no views."""

    def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
        schema = function._schema
        name = schema.name.removeprefix("aten::")
        view = any(value.alias_info is not None for value in schema.returns)
        if (schema.is_mutable or not view) and not name.startswith("empty"):
            watched.note(name)
        return function(*args, **(kwargs or {}))

    def taken(self):
        """All since the last time, in order."""
        names = list(watched.launched)
        watched.launched.clear()
        return names


@pytest.fixture
def launches():
    """Records what runs inside it as a context."""
    return Launches()
