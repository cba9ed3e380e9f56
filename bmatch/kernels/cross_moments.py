"""Cross-moments of two streams of 16-bit operands on the tensor cores: ``M += Y^T X``.

The work is a matrix product with a short output and a long reduction (2 T D1 D2 flop), so the
kernel is one. What is its own is where sums are kept. Tensor cores add in float32 and may drop
bits instead of rounding them, an error that grows with the number of additions. So a launch takes
one chunk of tokens; within it, `promote` steps stay on the tensor cores and are then added to
registers by rounded additions; and at its end the owner of each tile adds it to a float64 master,
and with it the two outer products a site that the means' moves call for, so that masters are read
and written once. No atomics: the same input gives the same bits.

One launch serves many sites, products of one shape that have nothing else to do with each other: a
grid of them fills a device that the few tiles of one would leave idle. How a product is cut is
decided as if it were alone, so that its bits do not depend on its company.

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
    GROUP,
    PROMOTED_TOKENS,
    Tiling,
    cdiv,
    has_descriptors,
    launching_on,
    most_splits,
    splits,
    strides,
    tiling,
)
from bmatch.kernels.partial_sums import add_partial_sums, outer_sum


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
    i_plane,
    i_row,
    i_col,
    tokens,
    D,
    stride_plane,
    stride_row,
    stride_col,
    UNIT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):
    if DESCRIPTORS:  # zeros outside the plane
        b_operand = operand.load([i_plane, i_row, i_col]).reshape(BLOCK_K, BLOCK)
    else:
        o_row = i_row + tl.arange(0, BLOCK_K)
        o_col = i_col + tl.arange(0, BLOCK)
        p_plane = operand + i_plane.to(tl.int64) * stride_plane * UNIT
        p_block = p_plane + (
            o_row.to(tl.int64)[:, None] * stride_row + o_col.to(tl.int64)[None, :] * stride_col
        )
        m_block = (o_row < tokens)[:, None] & (o_col < D)[None, :]
        b_operand = tl.load(p_block, mask=m_block, other=0.0)
    return b_operand  # [BLOCK_K, BLOCK]


@triton.jit
def _write(
    p_out, p_factors, has_factors, b_sum, i_m, i_n, D1, D2,
    M: tl.constexpr, N: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    o_m = i_m + tl.arange(0, M)
    o_n = i_n + tl.arange(0, N)
    p_tile = p_out + o_m.to(tl.int64)[:, None] * D2 + o_n[None, :]
    m_tile = (o_m < D1)[:, None] & (o_n < D2)[None, :]
    if ADD:
        b_master = tl.load(p_tile, mask=m_tile, other=0.0) + b_sum.to(tl.float64)
        m_m = (o_m < D1) & (has_factors != 0)
        m_n = (o_n < D2) & (has_factors != 0)
        b_master += outer_sum(
            p_factors, o_m[:, None], o_n[None, :], m_m[:, None], m_n[None, :], D1, D2
        )
        tl.store(p_tile, b_master, mask=m_tile)
    else:
        tl.store(p_tile, b_sum, mask=m_tile)


@triton.jit
def _halves(b_tile, M: tl.constexpr, N: tl.constexpr):
    return tl.split(tl.permute(tl.reshape(b_tile, (M, 2, N // 2)), (0, 2, 1)))


@triton.jit
def _write_quarters(
    p_out, p_factors, has_factors, b_sum, i_m, i_n, D1, D2,
    M: tl.constexpr, N: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    # A whole tile of addresses and of float64 does not fit the registers.
    Q: tl.constexpr = N // 4
    b_left, b_right = _halves(b_sum, M, N)
    b_0, b_1 = _halves(b_left, M, N // 2)
    b_2, b_3 = _halves(b_right, M, N // 2)
    _write(p_out, p_factors, has_factors, b_0, i_m, i_n, D1, D2, M, Q, ADD)
    _write(p_out, p_factors, has_factors, b_1, i_m, i_n + Q, D1, D2, M, Q, ADD)
    _write(p_out, p_factors, has_factors, b_2, i_m, i_n + 2 * Q, D1, D2, M, Q, ADD)
    _write(p_out, p_factors, has_factors, b_3, i_m, i_n + 3 * Q, D1, D2, M, Q, ADD)


@triton.jit(do_not_specialize=["tokens", "has_factors", "stride_y_plane", "stride_x_plane"])
def cross_moments_kernel(
    y,  # [sites * PLANES, tokens, D1], descriptor or pointer
    x,  # [sites * PLANES, tokens, D2], descriptor or pointer
    p_out,  # float64 [sites, D1, D2] if ADD, otherwise float32 [sites, programs, D1, D2]
    p_factors,  # float64 [sites, 2, D1 + D2], read if ADD and has_factors
    D1,
    D2,
    tokens,
    has_factors,
    stride_y_plane,  # in units of UNIT numbers, as is the other
    stride_y_row,
    stride_y_col,
    stride_x_plane,
    stride_x_row,
    stride_x_col,
    PLANES: tl.constexpr,
    ADD: tl.constexpr,
    UNIT: tl.constexpr,
    PROMOTE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):
    """One tile of a site's Y^T X over one chunk of tokens, or over one part of it."""
    i_tile_m, i_tile_n = _grouped_tile(
        tl.program_id(0), tl.cdiv(D1, BLOCK_M), tl.cdiv(D2, BLOCK_N), GROUP
    )
    i_site = tl.program_id(2)
    i_m = i_tile_m * BLOCK_M
    i_n = i_tile_n * BLOCK_N
    TERMS: tl.constexpr = PLANES * (PLANES + 1) // 2
    steps = tl.cdiv(tokens, BLOCK_K)
    share = tl.cdiv(TERMS * steps, tl.num_programs(1))
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
        b_y = _operand(
            y, i_site * PLANES + i_plane_y, i_k, i_m, tokens, D1,
            stride_y_plane, stride_y_row, stride_y_col, UNIT, BLOCK_K, BLOCK_M, DESCRIPTORS,
        )  # fmt: skip
        b_x = _operand(
            x, i_site * PLANES + i_plane_x, i_k, i_n, tokens, D2,
            stride_x_plane, stride_x_row, stride_x_col, UNIT, BLOCK_K, BLOCK_N, DESCRIPTORS,
        )  # fmt: skip
        b_sum = tl.dot(tl.trans(b_y), b_x, b_sum)
        if PROMOTE > 0:  # noqa: SIM102  this is decided at compile time, the next at run time
            if (step + 1) % PROMOTE == 0:
                b_promoted += b_sum
                b_sum = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    if PROMOTE > 0:
        b_sum += b_promoted

    p_part = p_out + (i_site * tl.num_programs(1) + tl.program_id(1)).to(tl.int64) * D1 * D2
    p_site = p_factors
    if ADD:
        p_site = p_factors + i_site.to(tl.int64) * 2 * (D1 + D2)
    H: tl.constexpr = BLOCK_N // 2
    if ADD and BLOCK_N > 128:  # a master and its factors take twice the registers of a sum
        b_left, b_right = _halves(b_sum, BLOCK_M, BLOCK_N)
        _write_quarters(p_part, p_site, has_factors, b_left, i_m, i_n, D1, D2, BLOCK_M, H, ADD)
        _write_quarters(p_part, p_site, has_factors, b_right, i_m, i_n + H, D1, D2, BLOCK_M, H, ADD)
    else:
        _write_quarters(p_part, p_site, has_factors, b_sum, i_m, i_n, D1, D2, BLOCK_M, BLOCK_N, ADD)


def _cut(
    device: torch.device, d1: int, d2: int, tokens: int, planes: int, promoted: bool
) -> tuple[Tiling, int, int]:
    """How one site's product is cut: the tiling, how many tiles, the parts as `splits` has them."""
    chosen = tiling(device, min(d1, d2), promoted)
    tiles = cdiv(d1, chosen.block_m) * cdiv(d2, chosen.block_n)
    steps = planes * (planes + 1) // 2 * cdiv(tokens, chosen.block_k)
    return chosen, tiles, splits(device, tiles, steps)


def tokens_at_once(
    device: torch.device, d1: int, d2: int, per_accumulator: int, promoted: bool
) -> int:
    """How many tokens of one plane a call may take if no accumulator is to sum more than so many.

    Where few tiles are cut into parts, each of which sums its own, that is a multiple.
    """
    _, tiles, _ = _cut(device, d1, d2, per_accumulator, 1, promoted)
    return per_accumulator * most_splits(device, tiles)


def partial_bytes(
    device: torch.device, sites: int, d1: int, d2: int, tokens: int, planes: int, promoted: bool
) -> int:
    """Bytes that `add_cross_moments` takes beside what it is given."""
    _, _, parts = _cut(device, d1, d2, tokens, planes, promoted)
    return 4 * sites * parts * d1 * d2


def add_cross_moments(
    products: torch.Tensor,
    target: torch.Tensor,
    source: torch.Tensor,
    promoted: bool = True,
    factors: torch.Tensor | None = None,
    *,
    descriptors: bool | None = None,
    parts: int | None = None,
) -> None:
    """Add ``target^T source`` of every site, summed over tokens, to float64 masters in place.

    Parameters
    ----------
    products : float64 [S, D1, D2], contiguous
        The masters.
    target, source : bfloat16 or float16 [S, P, T, D1] and [S, P, T, D2]
        Operands of one dtype, of any strides; in one plane, or bfloat16 in up to three, as
        `split_planes` makes them. Anything but NaN and infinity.
    promoted : bool
        Leave the tensor cores every 256 tokens (relative error of a sum below 1e-6) or only at
        the end of the call (1e-5 for 8,192 tokens).
    factors : float64 [S, 2, D1 + D2], contiguous, optional
        ``left`` and ``right`` side by side, of which ``left^T right`` is added, too.
    descriptors : bool, optional
        Load through tensor descriptors (TMA). Default: where the device has them and rows start
        on 16 bytes.
    parts : int, optional
        Split the tokens into so many float32 partial sums, added in order; 0: into none, tiles
        are added to the masters at once. Default: as many as fill the device if there is one site.

    Raises
    ------
    ValueError
        If shapes, dtypes or devices do not fit.
    """
    fits = (
        target.ndim == source.ndim == 4
        and target.shape[:3] == source.shape[:3]
        and products.shape == (len(target), target.shape[3], source.shape[3])
        and target.shape[1] in (1, 2, 3)
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
    sites, planes, tokens, d1 = target.shape
    d2 = source.shape[3]
    if target.numel() == 0:
        return
    y, x = _flat(target), _flat(source)  # [S * P, T, D]
    if descriptors is None:
        descriptors = has_descriptors(products.device) and _aligned(y) and _aligned(x)

    chosen, tiles, natural = _cut(products.device, d1, d2, tokens, planes, promoted)
    parts = natural if parts is None else parts
    out, added = products, products if factors is None else factors
    if parts:
        shape = (sites, parts, d1, d2)
        out = torch.empty(shape, dtype=torch.float32, device=products.device)
    unit, walked = strides(y, x)

    def operand(values: torch.Tensor, block: int) -> torch.Tensor | TensorDescriptor:
        if not descriptors:
            return values
        return TensorDescriptor.from_tensor(values, [1, chosen.block_k, block])

    with launching_on(products.device):
        cross_moments_kernel[(tiles, max(parts, 1), sites)](
            operand(y, chosen.block_m),
            operand(x, chosen.block_n),
            out,
            None if parts else added,  # without factors an address, from which nothing is read
            d1,
            d2,
            tokens,
            int(factors is not None),
            *walked,
            PLANES=planes,
            ADD=parts == 0,
            UNIT=unit,
            PROMOTE=PROMOTED_TOKENS // chosen.block_k if promoted else 0,
            BLOCK_M=chosen.block_m,
            BLOCK_N=chosen.block_n,
            BLOCK_K=chosen.block_k,
            GROUP=GROUP,
            DESCRIPTORS=descriptors,
            num_warps=chosen.warps,
            num_stages=chosen.stages,
        )
    if parts:
        add_partial_sums(products, out, factors)


def _flat(values: torch.Tensor) -> torch.Tensor:
    """[S, P, T, D] as [S * P, T, D], without a copy."""
    sites, planes, tokens, d = values.shape
    over_sites, over_planes, *inside = values.stride()
    if planes == 1:
        over_planes = over_sites
    elif sites > 1 and over_sites != planes * over_planes:
        raise ValueError(
            "the planes of all sites must follow one another evenly, got strides "
            f"{values.stride()} for shape {tuple(values.shape)}"
        )
    return values.as_strided((sites * planes, tokens, d), (over_planes, *inside))


def _aligned(values: torch.Tensor) -> bool:
    """Whether a descriptor can walk the planes and rows: all start on 16 bytes."""
    plane, row, column = values.stride()
    item = values.element_size()
    return (
        column == 1
        and values.data_ptr() % 16 == 0
        and row * item % 16 == 0
        and plane * item % 16 == 0
    )
