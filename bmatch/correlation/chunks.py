"""A token stream chunk by chunk: read where it lies, summed, and centred for products.

On the CPU sums and products read the caller's own memory where nothing has to be subtracted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bmatch import _core
from bmatch.correlation.products import multiplies_bfloat16
from bmatch.correlation.statistics import CentredSums

CHUNK_TOKENS = 8192
"""Tokens whose float32 products are added up before they are folded into the statistics."""

_FLOAT32_RANGE = (1e-12, 1e12)  # where squares and their sums stay in float32's normal range

_COLUMN_SUMS: dict[torch.dtype, Callable[..., None]] = {
    torch.float32: _core.column_sums_float32,
    torch.float64: _core.column_sums_float64,
    torch.bfloat16: _core.column_sums_bfloat16,
}


@dataclass(frozen=True, eq=False)
class Centred:
    """Tokens of a chunk about a centre."""

    values: torch.Tensor  # float32, float64 or bfloat16 [n, D]
    sums: CentredSums  # of `values`, [D] each


class TokenStream:
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

    Attributes
    ----------
    chunks : int
        How many there are, of `CHUNK_TOKENS` tokens, the last of what is left.
    threads : _core.Threads or None
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
        self.threads = threads
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

        It is read where it lies, in bfloat16, too, where that can be multiplied, except that

        - a stream that is shifted is copied without its shift;
        - a channel whose mean about the shift exceeds its standard deviation, because the chunk
          differs from the rest of the batch, loses that mean, too;
        - what float32 does not reach is copied as float64;
        - other float32 is copied as bfloat16, if `rounded`, and the sums are those of the rounded
          numbers, which are multiplied.
        """
        values, sums = self._chunk(chunk), self._sums[chunk]
        centre = self._shift
        far = sums.total.square() > 0.5 * len(values) * sums.square
        if far.any():
            centre = self._centre(values, sums, far)
            sums = _sums(values, centre, self.threads)
        if not sums.fits:
            values = values.double() if centre is None else values.double() - centre
        elif centre is not None:
            values = torch.sub(values, centre, out=self._workspace.empty_like(values, self._dtype))
        if rounded and sums.fits and values.dtype == torch.float32:
            values = self._workspace.empty_like(values, torch.bfloat16).copy_(values)
            sums = _sums(values, None, self.threads)
        square = sums.square - sums.total.square() / len(values)
        # Only a constant channel cancels so far, to a rounding.
        square = torch.where(square < 1e-13 * sums.square, 0.0, square)
        centre = torch.zeros_like(sums.total) if centre is None else centre.double()
        return Centred(values, CentredSums(centre, sums.total, square))

    def _centre(self, values: torch.Tensor, sums: _Sums, far: torch.Tensor) -> torch.Tensor:
        """The shift, and the mean of a chunk in channels that are far from it: [D]."""
        shift = torch.zeros_like(sums.total) if self._shift is None else self._shift.double()
        mean, first = shift + sums.total / len(values), values[0].double()
        # A constant channel is centred on its very value, so that nothing is left of it.
        mean = torch.where((mean - first).abs() <= 1e-5 * first.abs(), first, mean)
        return torch.where(far, mean, shift).to(self._dtype)

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
        return self._workspace.empty_like(values, self._dtype).copy_(values)


class Workspace:
    """Memory for chunks, kept from chunk to chunk and from site to site.

    Fresh memory is slow to touch.
    """

    def __init__(self) -> None:
        self._memory: dict[torch.dtype, torch.Tensor] = {}

    def empty_like(self, values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
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
