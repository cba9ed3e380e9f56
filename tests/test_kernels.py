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

from bmatch.kernels.batch_sums import findings_kernel, move_kernel  # noqa: E402
from bmatch.kernels.centred import column_sums_kernel, split_planes_kernel  # noqa: E402
from bmatch.kernels.cross_moments import cross_moments_kernel  # noqa: E402
from bmatch.kernels.dispatch import (  # noqa: E402
    PROMOTED_TOKENS,
    STRIDE_UNIT,
    TILINGS,
    Tiling,
)
from bmatch.kernels.finalise import finalise_kernel, scales_kernel, strongest_kernel  # noqa: E402
from bmatch.kernels.partial_sums import partial_sums_kernel  # noqa: E402
from bmatch.kernels.pilot import pilot_kernel  # noqa: E402
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

    def __init__(self, kernel, capability, types, constants, warps, stages, tmp_path, **options):
        signature = {
            name: "constexpr" if name in constants else types.get(name, "i32")
            for name in kernel.arg_names
        }
        # What a launch finds out for itself: addresses, widths and row strides are multiples of 16.
        aligned = [
            (parameter.num,)
            for parameter in kernel.params
            if not parameter.do_not_specialize_on_alignment
            and re.match(r"p_|D\d?$|W$|width$|.*_row$|[xy]$", parameter.name)
            and signature[parameter.name] != "constexpr"
        ]
        assert not any(kernel.params[place].do_not_specialize for (place,) in aligned)
        places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
        source = ASTSource(
            kernel, signature, places, {place: [["tt.divisibility", 16]] for place in aligned}
        )
        built = triton.compile(
            source,
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": warps, "num_stages": stages, **options},
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


def compile_product(row, capability, dtype, descriptors, planes, direct, tmp_path):
    def operand(block):
        return f"tensordesc<{dtype}[1, {row.block_k}, {block}]>" if descriptors else f"*{dtype}"

    types = {
        "y": operand(row.block_m),
        "x": operand(row.block_n),
        "p_out": "*fp64" if direct else "*fp32",
        "p_factors": "*fp64",
    }
    constants = {
        "stride_y_col": 1,
        "stride_x_col": 1,
        "PLANES": planes,
        "ADD": direct,
        "UNIT": STRIDE_UNIT,
        "PROMOTE": PROMOTED_TOKENS // row.block_k if row.promoted else 0,
        "BLOCK_M": row.block_m,
        "BLOCK_N": row.block_n,
        "BLOCK_K": row.block_k,
        "GROUP": 8,
        "DESCRIPTORS": descriptors,
    }
    if not direct:
        constants["p_factors"] = None
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
                yield row, capability, "bf16", descriptors, 3, True
                yield row, capability, "fp16", descriptors, 1, False
                if capability == 90:
                    yield row, capability, "bf16", False, 1, True


@pytest.mark.parametrize(
    ("row", "capability", "dtype", "descriptors", "planes", "direct"),
    list(products()),
    ids=lambda value: f"{value.block_m}x{value.block_n}" if isinstance(value, Tiling) else None,
)
def test_products_compile(row, capability, dtype, descriptors, planes, direct, tmp_path):
    built = compile_product(row, capability, dtype, descriptors, planes, direct, tmp_path)
    assert MATRIX_INSTRUCTION[capability] in built.ptx
    if row.evidence == "modelled":  # what was timed may spill where it is quicker all the same
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
    built = compile_product(row, 90, "bf16", True, 1, True, tmp_path)
    assert built.stack > 0
    assert built.spills > 0


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_passes_over_the_streams_compile(capability, dtype, tmp_path):
    types = {"p_y": f"*{dtype}", "p_x": f"*{dtype}", "p_mask": "*u8", "p_shift": "*fp32"}
    types |= {"p_partial": "*fp32", "p_y_planes": "*bf16", "p_x_planes": "*bf16"}
    blocks = {"stride_y_col": 1, "stride_x_col": 1, "UNIT": STRIDE_UNIT}
    blocks |= {"BLOCK_T": 16, "BLOCK_D": 128}
    for masked, planes in ((True, 3), (False, 1)):
        constants = {**blocks, "MASKED": masked, "PLANES": planes}
        if not masked:
            constants["p_mask"] = None
        summed = Compiled(
            column_sums_kernel, capability, types, {**constants, "STEPS": 16, "STAGES": 4}, 4, 3,
            tmp_path,
        )  # fmt: skip
        split = Compiled(split_planes_kernel, capability, types, constants, 4, 3, tmp_path)
        for built in (summed, split):
            assert built.stack == 0
            assert built.spills == 0
        # 16 bytes a thread, and the next blocks on their way while one is summed.
        assert re.search(r"cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 0x10", summed.ptx)
        assert re.search(r"ld\.global\S*\.v[24]\.b32", split.ptx)  # 8 or 16 bytes a thread


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_pilot_compiles(capability, dtype, masked, tmp_path):
    types = {"p_y": f"*{dtype}", "p_x": f"*{dtype}", "p_seen": "*i64", "p_shift": "*fp32"}
    constants = {"stride_y_col": 1, "stride_x_col": 1, "MASKED": masked, "UNIT": STRIDE_UNIT}
    constants |= {"PILOT": 256, "BLOCK_D": 32}
    if not masked:
        constants["p_seen"] = None
    built = Compiled(
        pilot_kernel, capability, types, constants, 8, 3, tmp_path, enable_fp_fusion=False
    )
    assert built.stack == 0
    assert built.spills == 0
    assert built.shared <= 16_384  # many programs share a multiprocessor
    assert re.search(r"ld\.global\S*\.v[24]\.b32", built.ptx)  # 8 or 16 bytes a thread
    assert "3FE3C6EF372FE95" in built.ptx.upper()  # the golden ratio, in float64
    assert "fma.rn.f64" not in built.ptx


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_sums_of_a_batch_compile(capability, tmp_path):
    sums = {"p_partial": "*fp32", "p_shift": "*fp32", "p_sums": "*fp64", "p_findings": "*fp64"}
    for kernel, types, constants in (
        (
            partial_sums_kernel,
            {"p_total": "*fp64", "p_partial": "*fp32", "p_factors": "*fp64"},
            {"BLOCK_P": 4, "BLOCK_W": 1024},
        ),
        (
            findings_kernel,
            {**sums, "p_seen": "*i64"},
            {"MASKED": True, "BLOCK_P": 64, "BLOCK_W": 16},
        ),
        (
            findings_kernel,
            sums,
            {"p_seen": None, "MASKED": False, "BLOCK_P": 64, "BLOCK_W": 16},
        ),
        (
            move_kernel,
            {name: "*fp32" if name == "p_shift" else "*fp64"
             for name in move_kernel.arg_names if name.startswith("p_")}
            | {"seen": "i64", "count": "i64"},
            {"BLOCK_W": 256},
        ),
    ):  # fmt: skip
        built = Compiled(kernel, capability, types, constants, 4, 3, tmp_path)
        assert built.stack == 0
        assert built.spills == 0
        if kernel is not move_kernel:
            assert re.search(r"ld\.global\S*\.v[24]\.b32", built.ptx)


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_last_steps_compile(capability, tmp_path):
    names = ("p_comoment", "p_target_scale", "p_source_scale")
    types = dict.fromkeys(names, "*fp64")
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
    types = {name: "*fp64" for name in scales_kernel.arg_names if name.startswith("p_")}
    built = Compiled(
        scales_kernel, capability, types | {"count": "i64"}, {"BLOCK_W": 256}, 4, 3, tmp_path
    )
    assert built.stack == 0
    assert built.spills == 0


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
