"""A stream of tokens chunk by chunk: centred, summed and multiplied by torch and on the CPU.

On the CPU sums and products read the caller's own memory where nothing has to be subtracted.
With AVX-512 the products are bmatch's own, elsewhere torch's: bfloat16 is multiplied as it is by
the processor's instructions, with sums in float32, which torch would round to bfloat16 again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bmatch import _core

CHUNK_TOKENS = 8192
"""Tokens whose float32 products are added up before they are folded into the statistics."""

PRODUCT_TOKENS = 4096
"""Tokens per float32 product of torch. With a stream of few channels BLAS may add them one by one,
and errs by 4e-7 in a correlation here and by 1e-6 at 8,192; wide streams err by 1e-7 at both."""

_FLOAT32_RANGE = (1e-12, 1e12)  # where squares and their sums stay in float32's normal range

_FEW = 2**24  # multiplications for which no thread is started

_COLUMN_SUMS: dict[torch.dtype, Callable[..., None]] = {
    torch.float32: _core.column_sums_float32,
    torch.float64: _core.column_sums_float64,
    torch.bfloat16: _core.column_sums_bfloat16,
}


class Stream:
    """The counted tokens of one stream at one site, chunk by chunk.

    Parameters
    ----------
    values : floating [N, D]
    rows : int64 [n] or None
        Which tokens count; all if None.
    shift : float32 or float64 [D]
        What is subtracted, in the dtype in which `values` are multiplied.
    workspace : Workspace
        Where a chunk goes that cannot stay where it is.
    threads : _core.Threads or None
        Threads on the CPU; None elsewhere.
    """

    def __init__(
        self,
        values: torch.Tensor,
        rows: torch.Tensor | None,
        shift: torch.Tensor,
        workspace: Workspace,
        threads: _core.Threads | None,
    ) -> None:
        self._workspace = workspace
        self._threads = threads
        self._values = values
        self._rows = rows
        self._shift = shift if bool(shift.any()) else None
        self._dtype = shift.dtype
        tokens = len(values) if rows is None else len(rows)
        self.chunks = -(-tokens // CHUNK_TOKENS)
        self._sums = [_sums(self._chunk(k), self._shift, threads) for k in range(self.chunks)]

    def non_finite(self) -> tuple[int, int, float] | None:
        """Token, coordinate and value of the first number that is NaN or infinite, if any is."""
        for chunk, sums in enumerate(self._sums):
            if not sums.square.isfinite().all():  # or squares overflowed
                values = self._chunk(chunk)
                found = (~values.isfinite()).nonzero()
                if len(found):
                    token, coordinate = found[0].tolist()
                    return (
                        chunk * CHUNK_TOKENS + token,
                        coordinate,
                        float(values[token, coordinate]),
                    )
        return None

    def centred(self, chunk: int, rounded: bool) -> Centred:
        """A chunk as it is multiplied; it lasts until the next is asked for.

        It is a copy if the stream is shifted, or if a channel's mean about the shift exceeds its
        standard deviation, because the chunk differs from the rest of the batch: such channels
        lose their mean, too. If `rounded`, what float32 holds is rounded to bfloat16, and the sums
        are those of the rounded numbers, which are multiplied. bfloat16 that is not shifted stays
        as it is where it can be multiplied.
        """
        values, sums = self._chunk(chunk), self._sums[chunk]
        n = len(values)
        centre = self._shift
        far = sums.total.square() > 0.5 * n * sums.square
        if far.any():
            # A constant channel is centred on its very value, so that nothing is left of it.
            shift = torch.zeros_like(sums.total) if centre is None else centre.double()
            mean, first = shift + sums.total / n, values[0].double()
            mean = torch.where((mean - first).abs() <= 1e-5 * first.abs(), first, mean)
            centre = torch.where(far, mean, shift).to(self._dtype)
            sums = _sums(values, centre, self._threads)
        if not sums.fits:
            values = values.double() if centre is None else values.double() - centre
        elif centre is not None:
            values = torch.sub(values, centre, out=self._workspace.like(values, self._dtype))
        if rounded and sums.fits and values.dtype == torch.float32:
            values = self._workspace.like(values, torch.bfloat16).copy_(values)
            sums = _sums(values, None, self._threads)
        square = sums.square - sums.total.square() / n
        return Centred(
            values,
            torch.zeros_like(sums.total) if centre is None else centre.double(),
            sums.total,
            # Only a constant channel cancels so far, to a rounding.
            torch.where(square < 1e-13 * sums.square, 0.0, square),
        )

    def _chunk(self, chunk: int) -> torch.Tensor:
        """[n, D], columns side by side: the caller's memory where it can be read."""
        tokens = slice(chunk * CHUNK_TOKENS, (chunk + 1) * CHUNK_TOKENS)
        if self._rows is None:
            values = self._values[tokens]
        else:
            values = self._values.index_select(0, self._rows[tokens])
        readable = values.dtype == self._dtype or (
            values.dtype == torch.bfloat16 and multiplies_bfloat16(values.device)
        )
        if readable and values.stride(1) == 1:
            return values
        return self._workspace.like(values, self._dtype).copy_(values)


class Workspace:
    """Memory for chunks, kept from chunk to chunk and from site to site.

    Fresh memory is slow to touch.
    """

    def __init__(self) -> None:
        self._memory: dict[torch.dtype, torch.Tensor] = {}

    def like(self, values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """As many rows and columns as `values`; of each dtype there is one."""
        held = self._memory.get(dtype)
        if held is None or len(held) < len(values):
            held = torch.empty(values.shape, dtype=dtype, device=values.device)
            self._memory[dtype] = held
        return held[: len(values)]


@dataclass(frozen=True, eq=False)
class _Sums:
    """Column sums of some rows and of their squares: float64 [D]."""

    total: torch.Tensor
    square: torch.Tensor
    fits: bool  # whether products of the rows neither overflow nor vanish in their dtype


@dataclass(frozen=True, eq=False)
class Centred:
    """Rows about a centre."""

    values: torch.Tensor  # float32, float64 or bfloat16 [n, D]
    centre: torch.Tensor  # float64 [D], what was subtracted
    total: torch.Tensor  # float64 [D], sums of `values`
    square: torch.Tensor  # float64 [D], sums of squares about the mean


def threads_for(device: torch.device, multiplications: int) -> _core.Threads | None:
    """As many threads as torch uses, on the CPU; one if there is little to do."""
    if device.type != "cpu":
        return None
    return _core.Threads(torch.get_num_threads() if multiplications > _FEW else 1)


def _sums(values: torch.Tensor, shift: torch.Tensor | None, threads: _core.Threads | None) -> _Sums:
    """Of ``values - shift``: [n, D] with columns side by side, and float32 or float64 [D]."""
    n, d = values.shape
    if threads is not None:
        total, square = torch.empty((2, d), dtype=torch.float64)
        addresses = [0 if v is None else v.data_ptr() for v in (shift, total, square)]
        _COLUMN_SUMS[values.dtype](values.data_ptr(), n, d, values.stride(0), *addresses, threads)
    else:
        exact = values.double() if shift is None else values.double() - shift
        total, square = exact.sum(0), exact.square().sum(0)
    fits = True
    if values.dtype != torch.float64:
        low, high = _FLOAT32_RANGE
        odd = ((square <= n * low**2) | ~(square < high**2)).nonzero()[:, 0]
        if len(odd):  # squares may have left float32's range, or there is nothing to square
            exact = values[:, odd].double()
            if shift is not None:
                exact -= shift[odd]
            total[odd], square[odd] = exact.sum(0), exact.square().sum(0)
            peaks = exact.abs().amax(0)
            fits = bool(((peaks == 0) | ((peaks > low) & (peaks < high))).all())
    return _Sums(total, square, fits)


def multiply(
    left: torch.Tensor, right: torch.Tensor, threads: _core.Threads | None
) -> torch.Tensor:
    """``left^T right`` of [n, D1] and [n, D2]: float64 if one of them is, otherwise float32."""
    if left.dtype != right.dtype:
        common = torch.promote_types(torch.promote_types(left.dtype, right.dtype), torch.float32)
        left, right = left.to(common), right.to(common)
    own = None if threads is None else _own_product(left.dtype)
    if own is not None:
        products = torch.empty(left.shape[1], right.shape[1])
        own(
            left.data_ptr(), right.data_ptr(), len(left), left.shape[1], right.shape[1],
            left.stride(0), right.stride(0), products.data_ptr(), threads,
        )  # fmt: skip
        return products
    with _torch_precision(left.device, bfloat16=left.dtype == torch.bfloat16):
        if left.dtype == torch.bfloat16:
            left, right = left.float(), right.float()
        products = left[:PRODUCT_TOKENS].T @ right[:PRODUCT_TOKENS]
        for start in range(PRODUCT_TOKENS, len(left), PRODUCT_TOKENS):
            piece = slice(start, start + PRODUCT_TOKENS)
            products += left[piece].T @ right[piece]
    return products


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether `multiply` takes bfloat16 as it is, faster than float32 and summed as that is."""
    return device.type == "cpu" and (
        _bfloat16_by_torch() or _own_product(torch.bfloat16) is not None
    )


def _own_product(dtype: torch.dtype) -> Callable[..., None] | None:
    """The product of the dtype in C++, if the instruction set has one and it is the fastest."""
    if dtype == torch.float32 and _core.multiplies_float32():
        return _core.multiply_float32
    if dtype == torch.bfloat16 and _core.multiplies_bfloat16() and not _bfloat16_by_torch():
        return _core.multiply_bfloat16
    return None


def _bfloat16_by_torch() -> bool:
    """Whether torch has instructions for bfloat16 that bmatch has not: AMX, or those of Arm."""
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)  # from torch 2.5 on
    if has_amx is not None and has_amx():
        return True
    return not _core.multiplies_float32() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def chunk_bytes(tokens: int, target_dim: int, source_dim: int) -> int:
    """What adding a chunk of float32 takes on the CPU, if it is masked and shifted."""
    product, copies = 4 * target_dim * source_dim, 8 * tokens * (target_dim + source_dim)
    if _own_product(torch.float32) is not None:
        return product + copies + _core.packed_bytes(tokens, target_dim, source_dim)
    return product * (2 if tokens > PRODUCT_TOKENS else 1) + copies


def fold(
    comoment: torch.Tensor,
    products: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    threads: _core.Threads | None,
) -> None:
    """``comoment += products + left^T right``: float64 [D1, D2], any [D1, D2], [2, D1], [2, D2]."""
    if threads is None:
        comoment += products
        add_outer(comoment[None], left[None], right[None])
        return
    run: Callable[..., None]
    run = _core.fold_float64 if products.dtype == torch.float64 else _core.fold_float32
    d1, d2 = comoment.shape
    run(
        comoment.data_ptr(), products.data_ptr(), d1, d2, left.data_ptr(), right.data_ptr(), threads
    )  # fmt: skip


def add_outer(comoment: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """``comoment += left^T right``, entry by entry: [S, D1, D2], [S, 2, D1], [S, 2, D2]."""
    for k in range(left.shape[1]):
        comoment.addcmul_(left[:, k, :, None], right[:, k, None, :])


@contextmanager
def _torch_precision(device: torch.device, bfloat16: bool) -> Iterator[None]:
    """float32 products in float32, whatever torch's global settings and autocast say.

    If `bfloat16`, the numbers are such that bfloat16 holds them: on the CPU its instructions may
    multiply them, and sum in float32.
    """
    # torch 2.9 keeps a setting for each backend, and refuses its older global one to those who
    # have used the new ones.
    mkldnn = getattr(torch.backends.mkldnn, "matmul", None)
    with torch.autocast(device.type, enabled=False):
        if mkldnn is None:
            setting = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("medium" if bfloat16 else "highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(setting)
        else:
            backends = (torch.backends.cuda.matmul, mkldnn)
            settings = [backend.fp32_precision for backend in backends]
            try:
                for backend in backends:
                    backend.fp32_precision = "ieee"
                if bfloat16:
                    mkldnn.fp32_precision = "bf16"
                yield
            finally:
                for backend, setting in zip(backends, settings, strict=True):
                    backend.fp32_precision = setting
