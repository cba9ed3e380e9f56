"""Triton's interpreter, repaired where it computes bfloat16 wrongly, or not at all.

Two faults of triton 3.6 and 3.7: `tl.dot` multiplies the bit patterns of bfloat16 operands, and a
cast from float32 to bfloat16 cuts bits off where every GPU rounds them. One of triton 3.6: loops
over a number of steps known at run time fail with NumPy 2.4 and later.
`test_interpreter.py` fails when a repair is no longer in place. And what is slow: each operation
makes a table of NumPy's types, and the type and the shape of its result anew, where here each is
made once.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

_cast = InterpreterBuilder.cast_impl
_patch_tensor = interpreter._patch_lang_tensor
_get_np_dtype = interpreter._get_np_dtype
_of_number = functools.cache(_get_np_dtype)
_make_block = tl.block_type.__init__


def _numpy_type(kind):
    # Pointers and blocks cannot be looked up.
    return _of_number(kind) if type(kind) is tl.dtype else _get_np_dtype(kind)


@functools.cache
def _block_of(element, shape):
    made = object.__new__(tl.block_type)
    _make_block(made, element, [*shape])
    return vars(made)


def _known_block(self, element_ty, shape):
    if type(element_ty) is not tl.dtype:  # pointers cannot be looked up
        _make_block(self, element_ty, shape)
        return
    sizes = tuple(size.value if isinstance(size, tl.constexpr) else size for size in shape)
    vars(self).update(_block_of(element_ty, sizes))


@functools.cache
def _shape_of(*sizes):
    return tl.tuple([tl.constexpr(size) for size in sizes]), tl.constexpr(math.prod(sizes))


def _known_shape(self, handle, type):
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.shape, self.numel = _shape_of(*(type.shape if type.is_block() else ()))


def _as_float32(handle):
    if handle.dtype.scalar == tl.bfloat16:
        return (handle.data.astype(np.uint32) << 16).view(np.float32)
    return handle.data.astype(np.float32)


def _dot(self, a, b, d, input_precision, max_num_imprecise_acc):
    product = np.matmul(_as_float32(a), _as_float32(b))
    return TensorHandle(product + d.data, d.dtype.scalar)


def _rounding_cast(self, src, dst_type):
    if src.dtype.scalar == tl.float32 and dst_type.scalar == tl.bfloat16:
        rounded = torch.from_numpy(np.ascontiguousarray(src.data)).bfloat16()
        return TensorHandle(rounded.view(torch.uint16).numpy(), tl.bfloat16)
    if src.dtype.scalar == tl.bfloat16 and dst_type.scalar == tl.float32:
        return TensorHandle(_as_float32(src), tl.float32)  # the upper half of its bits, as it is
    return _cast(self, src, dst_type)


def _indexing_patch(tensor, scope):
    _patch_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())


def repair():
    """Put the repairs in place for this process."""
    InterpreterBuilder.create_dot = _dot
    InterpreterBuilder.cast_impl = _rounding_cast
    interpreter._patch_lang_tensor = _indexing_patch
    interpreter._get_np_dtype = _numpy_type
    tl.block_type.__init__ = _known_block
    tl.tensor.__init__ = _known_shape
