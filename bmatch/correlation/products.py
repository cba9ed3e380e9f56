"""Products of tokens and their folding into comoments: on the CPU bmatch's own, or torch's.

With AVX-512 the products on the CPU are bmatch's own, elsewhere torch's: bfloat16 is multiplied as
it is by the processor's instructions, with sums in float32, which torch would round to bfloat16
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from bmatch import _core
from bmatch.jobs.cores import Neighbours

PRODUCT_TOKENS = 4096
"""Tokens per float32 product of torch. Where channels are few BLAS may add tokens one by one, and
errs by 4e-7 in a correlation here and by 1e-6 at 8,192; where they are many by 1e-7 at both."""

_FEW = 2**24  # multiplications for which no thread is started
_neighbours = Neighbours()


def threads_for(device: torch.device, multiplications: int) -> _core.Threads | None:
    """Threads for passes over tokens on the CPU, None elsewhere; answers do not depend on them.

    As many as torch uses, but for cores that other processes take; one if there is little to do.
    """
    if device.type != "cpu":
        return None
    wanted = torch.get_num_threads() if multiplications > _FEW else 1
    return _core.Threads(_neighbours.threads_beside(wanted))


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


def product_bytes(tokens: int, target_dim: int, source_dim: int) -> int:
    """What `multiply` takes on the CPU for float32 operands, its result included."""
    product = 4 * target_dim * source_dim
    if _own_product(torch.float32) is not None:
        return product + _core.packed_bytes(tokens, target_dim, source_dim)
    return product * (2 if tokens > PRODUCT_TOKENS else 1)


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
