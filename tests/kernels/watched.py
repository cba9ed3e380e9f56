"""Triton's interpreter with an eye on memory: who reads and writes what, in any order of programs.

A GPU runs the programs of a launch in no order, and lets a stray address do its damage quietly.
Here programs run in an order drawn by a seed, and a launch fails if a program
- touches what is in no tensor that the launch was given, be it in the memory of one;
- writes where another program writes or reads, or reads where another writes;
- reads floats that nobody has written since they were allocated.
Fresh memory is poisoned, and lies between guards that `intact` looks at. Atomics are not watched:
no kernel has any.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import types

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpretedFunction, InterpreterBuilder
from triton.tools.tensor_descriptor import TensorDescriptor

# NaN as no arithmetic makes it, by the size of a float.
_POISON = {2: 0x7FED, 4: 0x7FEDDEAD, 8: 0x7FFDDEADDEADDEAD}
_UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}
_SIGNED = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_GUARD = 64  # elements on either side

_NOBODY, _SEVERAL = -1, -2

_empty = torch.empty
_load, _store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store


class Trespass(AssertionError):
    """An access that a launch has no right to."""


class _Region:
    """The bytes of one storage: what belongs to tensors, and who touched it."""

    def __init__(self, storage):
        self.start = storage.data_ptr()
        self.allowed = np.zeros(storage.nbytes() + 8, bool)
        self.writer = np.full(len(self.allowed), _NOBODY, np.int32)
        self.reader = np.full(len(self.allowed), _NOBODY, np.int32)

    def allow(self, tensor):
        size = tensor.element_size()
        elements = torch.zeros(-(-len(self.allowed) // size), dtype=torch.bool)
        elements.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)
        self.allowed |= np.repeat(elements.numpy(), size)[: len(self.allowed)]


class _Launch:
    """One launch of a kernel on the tensors that it was given."""

    def __init__(self, name, tensors):
        self.name = name
        self.program = None
        regions = {}
        for tensor in tensors:
            if tensor.numel():
                storage = tensor.untyped_storage()
                regions.setdefault(storage.data_ptr(), _Region(storage)).allow(tensor)
        self._regions = [regions[start] for start in sorted(regions)]
        self._starts = np.array(sorted(regions), np.uint64)

    def touch(self, pointers, mask, written):
        """Check one access of the running program, and note it."""
        where, lanes = np.broadcast_arrays(pointers.data, _lanes(mask))
        addresses = where[lanes].astype(np.uint64)
        if not len(addresses):
            return
        places = np.searchsorted(self._starts, addresses, side="right").astype(np.int64) - 1
        for place in np.unique(places):
            if place < 0:
                self._refuse("touches memory of no tensor", addresses, places == place)
            region = self._regions[place]
            own = addresses[places == place]
            bytes_in = (own - np.uint64(region.start)).astype(np.int64)
            outside = bytes_in >= len(region.allowed)
            outside[~outside] = ~region.allowed[bytes_in[~outside]]
            if outside.any():
                self._refuse("touches memory of no tensor", own, outside)
            self._note(region, bytes_in, own, written)

    def _note(self, region, bytes_in, addresses, written):
        writer, reader = region.writer[bytes_in], region.reader[bytes_in]
        other = (writer != _NOBODY) & (writer != self.program)
        if other.any():
            what = "writes" if written else "reads"
            self._refuse(f"{what} what another program writes", addresses, other)
        if written:
            other = (reader != _NOBODY) & (reader != self.program)
            if other.any():
                self._refuse("writes what another program reads", addresses, other)
            region.writer[bytes_in] = self.program
        else:
            fresh = (reader == _NOBODY) | (reader == self.program)
            region.reader[bytes_in] = np.where(fresh, self.program, _SEVERAL)

    def _refuse(self, what, addresses, at):
        raise Trespass(
            f"{self.name}: program {self.program} {what}, at {int(at.sum())} addresses, the first "
            f"{int(addresses[at][0]):#x}"
        )


_running = None  # the launch whose programs run
_drawn = random.Random(0)
launched: list[str] = []
"""Names of the kernels, and of what else is noted, in order."""
_unseen = 0  # deep in what no device would run


def note(name):
    """Put a name among the launched, unless it is the watch itself that is at work."""
    if not _unseen:
        launched.append(name)


@contextlib.contextmanager
def _of_no_device():
    global _unseen
    _unseen += 1
    try:
        yield
    finally:
        _unseen -= 1


def _lanes(mask):
    """The interpreter's masks: of integers, bools, or bare arrays from descriptors."""
    return np.asarray(mask.data).astype(bool)


def _watched_load(self, ptrs, mask, other, *modifiers, **named):
    _running.touch(ptrs, mask, written=False)
    loaded = _load(self, ptrs, mask, other, *modifiers, **named)
    if loaded.dtype.scalar.is_floating():
        size = loaded.data.dtype.itemsize
        lanes = np.broadcast_to(_lanes(mask), loaded.data.shape)
        read = loaded.data.view(_UNSIGNED[size])[lanes]
        if (read == _POISON[size]).any():
            raise Trespass(f"{_running.name}: program {_running.program} reads unwritten memory")
    return loaded


def _watched_store(self, ptrs, value, mask, *modifiers, **named):
    _running.touch(ptrs, mask, written=True)
    return _store(self, ptrs, value, mask, *modifiers, **named)


def _tensors(arguments):
    for argument in arguments:
        if isinstance(argument, TensorDescriptor):
            yield argument.base
        elif isinstance(argument, torch.Tensor):
            yield argument


def _launch(self, *given, **options):
    """In place of `GridExecutor.__call__`, for tensors that are on the CPU already."""
    global _running
    note(self.fn.__name__)
    named = {k: v for k, v in options.items() if k in inspect.getfullargspec(self.fn).args}
    bound = inspect.getcallargs(self.fn, *given, **named)
    with _of_no_device(), _language():
        arguments = {
            name: value if name in self.constexprs else interpreter._implicit_cvt(value)
            for name, value in bound.items()
        }
        grid = (*self.grid, 1, 1)[:3]
        interpreter.interpreter_builder.set_grid_dim(*grid)
        programs = list(np.ndindex(grid))
        order(programs)
        _running = _Launch(self.fn.__name__, _tensors(bound.values()))
        for program in programs:
            _running.program = np.ravel_multi_index(program, grid)
            interpreter.interpreter_builder.set_grid_idx(*program)
            self.fn(**arguments)
        _running = None


@contextlib.contextmanager
def _language():
    """Triton's language for NumPy: once a launch, where the interpreter does it at every call."""
    scope = interpreter._patch_lang(types.SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
    try:
        yield
    finally:
        scope.restore()


def shuffled(programs):
    """Into an order that the seed draws."""
    _drawn.shuffle(programs)


order = shuffled
"""How the programs of a launch are put in order, in place."""


def install(seed):
    """Watch all launches of this process from now on, in orders that the seed draws."""
    _drawn.seed(seed)
    launched.clear()
    GridExecutor.__call__ = _launch
    InterpretedFunction.__call__ = lambda self, *a, **k: self.rewrite()(*a, **k)
    InterpreterBuilder.create_masked_load = _watched_load
    InterpreterBuilder.create_masked_store = _watched_store


class Memory:
    """Stands in for `torch.empty`: poisoned memory between guards."""

    def __init__(self):
        self._given = []

    def __call__(self, *shape, dtype=None, device=None):
        shape = torch.Size(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)
        memory = _empty(shape.numel() + 2 * _GUARD, dtype=dtype, device=device)
        with _of_no_device():
            poison(memory)
        inside = memory[_GUARD : len(memory) - _GUARD].view(shape)
        self._given.append(memory)
        return inside

    def intact(self):
        """Whether nothing has been written beside what was asked for."""
        return all(
            is_poison(side).all()
            for memory in self._given
            for side in (memory[:_GUARD], memory[-_GUARD:])
        )


def _bits(values):
    size = values.element_size()
    pattern = _POISON[size] if values.is_floating_point() else -1
    return values.view(_SIGNED[size]) if values.dtype != torch.bool else values, pattern


def poison(values):
    """Fill memory with what shows: a NaN of its own, -1 or True."""
    bits, pattern = _bits(values)
    bits.fill_(pattern)


def is_poison(values):
    """Which elements nobody has written since they were poisoned."""
    bits, pattern = _bits(values)
    return bits == (True if values.dtype == torch.bool else pattern)
