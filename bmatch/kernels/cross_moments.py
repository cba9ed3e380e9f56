"""Cross-moments of two streams of 16-bit operands on the tensor cores: ``M += Y^T X``.

The work is a matrix product with a short output and a long reduction (2 T D1 D2 flop), so the
kernel is one. What is its own is where sums are kept. Tensor cores add in float32 and may drop
bits instead of rounding them, an error that grows with the number of additions. So a launch takes
one chunk of tokens; within it, `promote` steps stay on the tensor cores and are then added to
registers by rounded additions; and at its end the owner of each tile adds it to a float64 master.
No atomics: the same input gives the same bits.

Operands come in one plane, 16-bit activations as they are, or in two or three, float32 split into
bfloat16 of falling magnitude. Of the products of planes those that count are added: three of two
planes leave out 2^-18 of the first, six of three planes 2^-27. This is "bf16x3" and "bf16x6" of
G. Henry, P. T. P. Tang, A. Heinecke, "Leveraging the bfloat16 artificial intelligence datatype
for higher-precision computations", ARITH 2019.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from bmatch.kernels.dispatch import (
    PROMOTED_TOKENS,
    ROW_MULTIPLE,
    has_descriptors,
    launching_on,
    splits,
    tiling,
)


@triton.jit
def _grouped_tile(i_tile, n_m, n_n, GROUP: tl.constexpr):
    # Tiles run down groups of GROUP rows, so that neighbours in time share operands in L2.
    i_group = i_tile // (GROUP * n_n)
    i_inside = i_tile % (GROUP * n_n)
    height = tl.minimum(n_m - i_group * GROUP, GROUP)
    return i_group * GROUP + i_inside % height, i_inside // height


@triton.jit
def _operand(
    operand,
    i_row,
    i_col,
    row_end,
    D,
    stride_row,
    stride_col,
    BLOCK_K: tl.constexpr,
    BLOCK: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):
    if DESCRIPTORS:
        b_operand = operand.load([i_row, i_col])  # zeros outside
    else:
        o_row = i_row + tl.arange(0, BLOCK_K)
        o_col = i_col + tl.arange(0, BLOCK)
        p_block = operand + (
            o_row.to(tl.int64)[:, None] * stride_row + o_col.to(tl.int64)[None, :] * stride_col
        )
        m_block = (o_row < row_end)[:, None] & (o_col < D)[None, :]
        b_operand = tl.load(p_block, mask=m_block, other=0.0)
    return b_operand  # [BLOCK_K, BLOCK]


@triton.jit
def _write(p_out, b_sum, i_m, i_n, D1, D2, M: tl.constexpr, N: tl.constexpr, ADD: tl.constexpr):
    o_m = i_m + tl.arange(0, M)
    o_n = i_n + tl.arange(0, N)
    p_tile = p_out + o_m.to(tl.int64)[:, None] * D2 + o_n[None, :]
    m_tile = (o_m < D1)[:, None] & (o_n < D2)[None, :]
    if ADD:
        b_master = tl.load(p_tile, mask=m_tile, other=0.0)
        tl.store(p_tile, b_master + b_sum.to(tl.float64), mask=m_tile)
    else:
        tl.store(p_tile, b_sum, mask=m_tile)


@triton.jit
def _halves(b_tile, M: tl.constexpr, N: tl.constexpr):
    return tl.split(tl.permute(tl.reshape(b_tile, (M, 2, N // 2)), (0, 2, 1)))


@triton.jit
def cross_moments_kernel(
    y,  # [planes * rows, D1], descriptor or pointer
    x,  # [planes * rows, D2], descriptor or pointer
    p_out,  # float64 [D1, D2], added to; with SPLITS > 1 float32 [SPLITS, D1, D2], written
    D1,
    D2,
    tokens,
    rows,
    stride_y_row,
    stride_y_col,
    stride_x_row,
    stride_x_col,
    TERMS: tl.constexpr,
    SPLITS: tl.constexpr,
    PROMOTE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):
    """One tile of Y^T X over one chunk of tokens, or over one part of it."""
    i_tile_m, i_tile_n = _grouped_tile(
        tl.program_id(0), tl.cdiv(D1, BLOCK_M), tl.cdiv(D2, BLOCK_N), GROUP
    )
    i_m = i_tile_m * BLOCK_M
    i_n = i_tile_n * BLOCK_N
    steps = tl.cdiv(tokens, BLOCK_K)
    share = tl.cdiv(TERMS * steps, SPLITS)
    first = tl.program_id(1) * share
    last = tl.minimum(first + share, TERMS * steps)

    b_sum = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    b_promoted = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(first, last):
        i_term = step // steps
        i_k = (step - i_term * steps) * BLOCK_K
        # Planes 00, 01, 10, 02, 11, 20: those of one magnitude follow one another.
        i_plane_x = tl.where(i_term < 3, i_term % 2, 5 - i_term)
        i_plane_y = tl.where(i_term < 3, i_term // 2, i_term - 3)
        plane_x = i_plane_x * rows
        plane_y = i_plane_y * rows
        b_y = _operand(
            y, plane_y + i_k, i_m, plane_y + tokens, D1, stride_y_row, stride_y_col,
            BLOCK_K, BLOCK_M, DESCRIPTORS,
        )  # fmt: skip
        b_x = _operand(
            x, plane_x + i_k, i_n, plane_x + tokens, D2, stride_x_row, stride_x_col,
            BLOCK_K, BLOCK_N, DESCRIPTORS,
        )  # fmt: skip
        b_sum = tl.dot(tl.trans(b_y), b_x, b_sum)
        if PROMOTE > 0:  # noqa: SIM102  this is decided at compile time, the next at run time
            if (step + 1) % PROMOTE == 0:
                b_promoted += b_sum
                b_sum = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    if PROMOTE > 0:
        b_sum += b_promoted

    # In quarters: a whole tile of addresses and of float64 does not fit the registers.
    ADD: tl.constexpr = SPLITS == 1
    N: tl.constexpr = BLOCK_N // 4
    p_part = p_out + tl.program_id(1).to(tl.int64) * D1 * D2
    b_left, b_right = _halves(b_sum, BLOCK_M, BLOCK_N)
    b_0, b_1 = _halves(b_left, BLOCK_M, BLOCK_N // 2)
    b_2, b_3 = _halves(b_right, BLOCK_M, BLOCK_N // 2)
    _write(p_part, b_0, i_m, i_n, D1, D2, BLOCK_M, N, ADD)
    _write(p_part, b_1, i_m, i_n + N, D1, D2, BLOCK_M, N, ADD)
    _write(p_part, b_2, i_m, i_n + 2 * N, D1, D2, BLOCK_M, N, ADD)
    _write(p_part, b_3, i_m, i_n + 3 * N, D1, D2, BLOCK_M, N, ADD)


def _launch(
    products: torch.Tensor,
    target: torch.Tensor,
    source: torch.Tensor,
    promoted: bool,
    descriptors: bool,
    parts: int | None,
) -> None:
    planes, rows, d1 = target.shape
    d2 = source.shape[2]
    chosen = tiling(products.device, min(d1, d2), promoted)
    steps = triton.cdiv(rows, chosen.block_k)
    terms = planes * (planes + 1) // 2
    tiles = triton.cdiv(d1, chosen.block_m) * triton.cdiv(d2, chosen.block_n)
    if parts is None:
        parts = splits(products.device, tiles, terms * steps)
    out = products
    if parts > 1:
        out = torch.empty((parts, d1, d2), dtype=torch.float32, device=products.device)

    def operand(values: torch.Tensor, block: int) -> torch.Tensor | TensorDescriptor:
        if not descriptors:
            return values
        flat = values.as_strided((planes * rows, values.shape[2]), (values.stride(1), 1))
        return TensorDescriptor.from_tensor(flat, [chosen.block_k, block])

    with launching_on(products.device):
        cross_moments_kernel[(tiles, parts)](
            operand(target, chosen.block_m),
            operand(source, chosen.block_n),
            out,
            d1,
            d2,
            rows,
            rows,
            target.stride(1),
            target.stride(2),
            source.stride(1),
            source.stride(2),
            TERMS=terms,
            SPLITS=parts,
            PROMOTE=PROMOTED_TOKENS // chosen.block_k if promoted else 0,
            BLOCK_M=chosen.block_m,
            BLOCK_N=chosen.block_n,
            BLOCK_K=chosen.block_k,
            GROUP=8,
            DESCRIPTORS=descriptors,
            num_warps=chosen.warps,
            num_stages=chosen.stages,
        )
    if parts > 1:
        products += out.sum(0, dtype=torch.float64)


def add_cross_moments(
    products: torch.Tensor,
    target: torch.Tensor,
    source: torch.Tensor,
    promoted: bool = True,
    descriptors: bool | None = None,
    parts: int | None = None,
) -> None:
    """Add ``target^T source``, summed over tokens, to float64 masters in place.

    Parameters
    ----------
    products : float64 [D1, D2], contiguous
        The masters.
    target, source : bfloat16 or float16 [T, D1] and [T, D2], or bfloat16 [P, T, D1] and [P, T, D2]
        Operands of one dtype, of any strides; or up to three planes of them, as `split_planes`
        makes them. Anything but NaN and infinity.
    promoted : bool
        Leave the tensor cores every 256 tokens (relative error of a sum below 1e-6) or only at
        the end of the call (1e-5 for 8,192 tokens).
    descriptors : bool, optional
        Load through tensor descriptors (TMA). Default: where the device has them and rows start
        on 16 bytes.
    parts : int, optional
        Split the tokens into so many float32 partial sums, added in order. Default: as many as
        fill the device.

    Raises
    ------
    ValueError
        If shapes, dtypes or devices do not fit.
    """
    if target.ndim == 2:
        target, source = target[None], source[None]
    fits = (
        target.ndim == source.ndim == 3
        and target.shape[:2] == source.shape[:2]
        and products.shape == (target.shape[2], source.shape[2])
        and target.shape[0] in (1, 2, 3)
    )
    if not fits:
        raise ValueError(
            f"products {tuple(products.shape)} do not fit operands of shapes "
            f"{tuple(target.shape)} and {tuple(source.shape)}"
        )
    if target.dtype != source.dtype or target.dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(
            f"operands must both be bfloat16 or both float16, got {target.dtype} and "
            f"{source.dtype}: split wider ones into planes"
        )
    if products.dtype != torch.float64 or not products.is_contiguous():
        raise ValueError("products must be contiguous float64")
    if not products.device == target.device == source.device:
        raise ValueError(
            f"products, target and source must share a device, got {products.device}, "
            f"{target.device} and {source.device}"
        )
    if target.shape[1] == 0:
        return
    for values in (target, source):
        if len(values) > 1 and values.stride(0) != values.shape[1] * values.stride(1):
            raise ValueError("each plane must follow the one before it without a gap")
    if descriptors is None:
        descriptors = has_descriptors(products.device) and _aligned(target) and _aligned(source)
    _launch(products, target, source, promoted, descriptors, parts)


def _aligned(values: torch.Tensor) -> bool:
    """Whether a descriptor can walk the rows: 16-byte strides, no block across two planes."""
    return (
        values.stride(2) == 1
        and values.data_ptr() % 16 == 0
        and values.stride(1) * values.element_size() % 16 == 0
        and (len(values) == 1 or values.shape[1] % ROW_MULTIPLE == 0)
    )
