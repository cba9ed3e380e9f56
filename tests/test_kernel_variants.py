"""How often Triton would compile: once a kernel, whatever the lengths of batches.

A compilation in mid-stream takes seconds. It depends on what Triton makes of the arguments, which
it does before it asks for a device; so a driver that only names one is enough.
"""

from __future__ import annotations

import types

import pytest
import torch

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime import driver  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

from bmatch.correlation import by_kernels  # noqa: E402
from bmatch.correlation.site_moments import SiteMoments  # noqa: E402
from bmatch.kernels import dispatch  # noqa: E402

LENGTHS = (512, 511, 300, 17, 1)


@pytest.fixture
def compiled(monkeypatch):
    """Names of the kernels and what they were specialised to, as Triton would compile them."""
    found = []
    device = object()  # none that has compiled anything yet

    def compile_nothing(kernel, key, signature, place, *_):
        found.append((kernel.__name__, key))
        built = types.SimpleNamespace(
            function=None,
            packed_metadata=None,
            launch_metadata=lambda *_: None,
            run=lambda *_: None,
        )
        kernel.device_caches[place][0][key] = built
        return built

    named = types.SimpleNamespace(
        get_current_device=lambda: device,
        get_current_stream=lambda place: 0,
        get_current_target=lambda: GPUTarget("cuda", dispatch._WITHOUT_GPU[0], 32),
    )
    monkeypatch.setattr(driver, "_active", named)
    monkeypatch.setattr(JITFunction, "_do_compile", compile_nothing)
    monkeypatch.setattr(by_kernels, "runs_kernels", lambda place: True)
    return found


def add_batch(m, tokens, dtype, masked, shifted, monkeypatch):
    """One update, in which the kernels do nothing and the host is told what it needs to go on."""
    sites, width = len(m.sites), m.target_dim
    found = by_kernels.Findings([1.0] * sites, [shifted] * sites, tokens)
    monkeypatch.setattr(by_kernels.KernelSums, "read", lambda sums: found)
    y, x = (torch.zeros(sites, tokens, width, dtype=dtype) for _ in range(2))
    m.update(y, x, torch.ones(tokens, dtype=torch.bool) if masked else None)


@pytest.mark.parametrize("capability", [(90, 132), (80, 108)])
@pytest.mark.parametrize("width", [64, 24, 65, 1536])
@pytest.mark.parametrize(
    ("dtype", "masked", "shifted"),
    [
        (torch.float32, True, True),
        (torch.float32, False, False),
        (torch.bfloat16, False, False),
        (torch.bfloat16, True, True),
    ],
)
def test_no_length_of_a_batch_and_no_number_of_sites_compiles_again(
    capability, width, dtype, masked, shifted, compiled, monkeypatch
):
    monkeypatch.setattr(dispatch, "_WITHOUT_GPU", capability)
    for sites in (1, 31) if width < 100 else (1, 2):
        m = SiteMoments(range(sites), width, width)
        for tokens in LENGTHS:
            add_batch(m, tokens, dtype, masked, shifted, monkeypatch)
    names = sorted(name for name, _ in compiled)
    split = dtype == torch.float32 or masked
    parts = width < 1000  # where tiles fill the device, they are added to the masters at once
    assert names == [
        "column_sums_kernel",
        "cross_moments_kernel",
        "findings_kernel",
        "move_kernel",
        *["partial_sums_kernel"] * parts,
        "pilot_kernel",
        *["split_planes_kernel"] * split,
    ]


def test_a_long_batch_runs_what_short_ones_do(compiled, monkeypatch):
    """Of several chunks only one carries what is added beside products."""
    monkeypatch.setattr(by_kernels, "_CHUNK_TOKENS", 128)
    m = SiteMoments((0,), 64, 64)
    for tokens in (100, 384, 129):
        add_batch(m, tokens, torch.float32, True, True, monkeypatch)
    assert len(compiled) == 7


def test_a_specialised_length_would_be_seen(compiled):
    """A kernel that is compiled anew for lengths that are multiples of 16, and for one token."""

    @triton.jit
    def kernel(p_values, tokens):
        pass

    for tokens in LENGTHS:
        kernel[(1,)](torch.zeros(4), tokens)
    assert [name for name, _ in compiled] == ["kernel"] * 3
