"""The Triton kernels without a GPU: in the interpreter, and compiled ahead of time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from bmatch.kernels.centred import column_sums_kernel, split_planes_kernel  # noqa: E402
from bmatch.kernels.cross_moments import cross_moments_kernel  # noqa: E402
from bmatch.kernels.dispatch import PROMOTED_TOKENS, TILINGS, Tiling  # noqa: E402
from bmatch.kernels.finalise import finalise_kernel, strongest_kernel  # noqa: E402
from bmatch.kernels.partial_sums import add_partial_sums_kernel  # noqa: E402
from bmatch.kernels.row_scan import scan_kernel  # noqa: E402

HERE = Path(__file__).parent
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
SHARED_MEMORY = {80: 166_912, 90: 232_448, 100: 232_448}  # bytes a block may have
MATRIX_INSTRUCTION = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma"}


def test_in_the_interpreter():
    """`tests/kernels` in a process of its own, without the models of this folder's conftest."""
    command = [sys.executable, "-m", "pytest", "--confcutdir=tests/kernels", "tests/kernels"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=HERE.parent,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


class Compiled:
    """A kernel compiled for a GPU that need not be there: its PTX, and what its SASS uses."""

    def __init__(self, kernel, capability, types, constants, warps, stages, tmp_path):
        signature = {
            name: "constexpr" if name in constants else types.get(name, "i32")
            for name in kernel.arg_names
        }
        # What a launch finds out for itself: addresses and row strides are multiples of 16.
        aligned = [
            (kernel.arg_names.index(name),)
            for name, kind in signature.items()
            if kind.startswith("*") or name in ("D", "D1", "D2", "width")
            or name.endswith(("_row", "_plane", "_site"))
        ]  # fmt: skip
        places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
        source = ASTSource(
            kernel, signature, places, {place: [["tt.divisibility", 16]] for place in aligned}
        )
        built = triton.compile(
            source,
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": warps, "num_stages": stages},
        )
        self.ptx = built.asm["ptx"]
        self.shared = built.metadata.shared
        cubin = tmp_path / "kernel.cubin"
        cubin.write_bytes(built.asm["cubin"])
        usage = self._tool("cuobjdump", "--dump-resource-usage", cubin)
        self.stack = int(re.search(r"STACK:(\d+)", usage).group(1))
        self.spills = len(re.findall(r"\b(?:LDL|STL)\b", self._tool("nvdisasm", cubin)))

    @staticmethod
    def _tool(name, *arguments):
        command = [str(TOOLS / name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def compile_product(row, capability, dtype, descriptors, planes, splits, tmp_path):
    def operand(block):
        return f"tensordesc<{dtype}[1, {row.block_k}, {block}]>" if descriptors else f"*{dtype}"

    types = {
        "y": operand(row.block_m),
        "x": operand(row.block_n),
        "p_out": "*fp32" if splits > 1 else "*fp64",
    }
    constants = {
        "stride_y_col": 1,
        "stride_x_col": 1,
        "PLANES": planes,
        "SPLITS": splits,
        "PROMOTE": PROMOTED_TOKENS // row.block_k if row.promoted else 0,
        "BLOCK_M": row.block_m,
        "BLOCK_N": row.block_n,
        "BLOCK_K": row.block_k,
        "GROUP": 8,
        "DESCRIPTORS": descriptors,
    }
    return Compiled(
        cross_moments_kernel, capability, types, constants, row.warps, row.stages, tmp_path
    )


def products():
    """Every row of the table on the GPUs that take it: planes, splits, both ways of loading."""
    for capability in (80, 90, 100):
        for row in TILINGS:
            taken = next(
                other
                for other in TILINGS
                if capability >= other.capability
                and row.dim >= other.dim
                and row.promoted == other.promoted
            )
            if taken is row:
                descriptors = capability >= 90
                yield row, capability, "bf16", descriptors, 3, 1
                yield row, capability, "fp16", descriptors, 1, 4
                if capability == 90:
                    yield row, capability, "bf16", False, 1, 1


@pytest.mark.parametrize(
    ("row", "capability", "dtype", "descriptors", "planes", "splits"),
    list(products()),
    ids=lambda value: f"{value.block_m}x{value.block_n}" if isinstance(value, Tiling) else None,
)
def test_products_compile(row, capability, dtype, descriptors, planes, splits, tmp_path):
    built = compile_product(row, capability, dtype, descriptors, planes, splits, tmp_path)
    assert MATRIX_INSTRUCTION[capability] in built.ptx
    assert built.stack == 0
    assert built.spills == 0
    assert built.shared <= SHARED_MEMORY[capability]
    # Loads run ahead of the products: by the copy engine, or by cp.async.
    assert ("cp.async.bulk.tensor" if descriptors else "cp.async.cg") in built.ptx
    if capability == 90:
        # One matrix instruction is still running when the next begins.
        assert re.search(r"wgmma\.wait_group\.sync\.aligned\s+1;", built.ptx)


def test_spills_would_be_seen(tmp_path):
    """A tile whose two sets of sums cannot fit the registers."""
    row = Tiling(90, 0, True, 128, 256, 64, 8, 3)
    built = compile_product(row, 90, "bf16", True, 1, 1, tmp_path)
    assert built.stack > 0
    assert built.spills > 0


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_passes_over_the_streams_compile(capability, dtype, tmp_path):
    types = {
        "p_values": f"*{dtype}",
        "p_mask": "*u8",
        "p_shift": "*fp32",
        "p_partial": "*fp32",
        "p_planes": "*bf16",
    }
    blocks = {"stride_col": 1, "MASKED": True, "PLANES": 3, "BLOCK_T": 32, "BLOCK_D": 128}
    for kernel, constants in (
        (column_sums_kernel, {**blocks, "STEPS": 8}),
        (split_planes_kernel, blocks),
    ):
        built = Compiled(kernel, capability, types, constants, 4, 3, tmp_path)
        assert built.stack == 0
        assert built.spills == 0
        assert re.search(r"ld\.global\S*\.v[24]\.b32", built.ptx)  # 8 or 16 bytes a thread


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_last_steps_compile(capability, tmp_path):
    names = ("p_comoment", "p_target_scale", "p_source_scale")
    types = dict.fromkeys(names, "*fp64")
    sums = Compiled(
        add_partial_sums_kernel, capability, {"p_total": "*fp64", "p_partial": "*fp32"},
        {"BLOCK_P": 16, "BLOCK_W": 128}, 4, 3, tmp_path,
    )  # fmt: skip
    assert sums.stack == 0
    assert sums.spills == 0
    assert re.search(r"ld\.global\S*\.v[24]\.b32", sums.ptx)
    for kernel, outputs, blocks, warps in (
        (finalise_kernel, {"p_out": "*fp32"}, (32, 128), 8),
        (
            strongest_kernel,
            {"p_source": "*i64", "p_value": "*fp32", "p_second": "*fp32"},
            (4, 256),
            4,
        ),
    ):
        constants = {"BLOCK_M": blocks[0], "BLOCK_N": blocks[1]}
        built = Compiled(kernel, capability, types | outputs, constants, warps, 3, tmp_path)
        assert built.stack == 0
        assert built.spills == 0
        assert re.search(r"ld\.global\S*\.v2\.b64", built.ptx)  # 16 bytes a thread


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("stored", ["fp16", "bf16", "fp32", "fp64"])
def test_the_scan_of_rows(capability, stored, tmp_path):
    kind = "*fp64" if stored == "fp64" else "*fp32"
    types = {"p_cost": f"*{stored}", "p_least": kind, "p_col": "*i32", "p_rest": kind}
    constants = {"SENSE": 2, "BLOCK_ROWS": 4, "BINS": 128}
    built = Compiled(scan_kernel, capability, types | {"p_valid": "*i8"}, constants, 4, 3, tmp_path)
    assert built.spills == 0


def test_the_interpreter_is_not_on_here():
    """Otherwise nothing in this file would have been compiled."""
    assert not triton.knobs.runtime.interpret
    assert isinstance(cross_moments_kernel, triton.runtime.JITFunction)
