"""A CUDA device played by the CPU, on which nothing is done when it is asked for, but later.

Tensors of `torch` that are made on ``device="cuda"`` hold their numbers in memory of the CPU. An
operation on them joins the queue of the current stream, and is done when a seed says so: only the
order within a stream, events and the host's waits hold it back. Memory comes from a model of
torch's caching allocator: what the host drops is poisoned as early as another tensor might be
written there, that is in the order of the stream that it was made on, and after the work which
streams have in hand that it was told of by `record_stream`.
"""

from __future__ import annotations

import contextlib
import random

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
_WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal"}


class _Work:
    """Something to do once other things are done."""

    def __init__(self, run, after, stream):
        self.run, self.stream = run, stream
        self.after = [work for work in after if work is not None and not work.done]
        self.done = False

    def ready(self):
        self.after = [work for work in self.after if not work.done]
        return not self.after


class Event:
    """Stands in for `torch.cuda.Event`."""

    def __init__(self):
        self.work = None

    def record(self, stream):
        self.work = stream.last

    def query(self):
        _device.drift()
        return self.work is None or self.work.done

    def synchronize(self):
        _device.wait(self.work)


class Stream:
    """Stands in for `torch.cuda.Stream`."""

    def __init__(self, device=None):
        self.last = None
        self._device = _device
        self.weight = _device.draw.choice((0.01, 1.0, 100.0))

    def enqueue(self, run, after=()):
        self.last = _Work(run, [self.last, *after], self)
        self._device.pending.append(self.last)
        self._device.drift()

    def record_event(self):
        event = Event()
        event.record(self)
        return event

    def wait_event(self, event):
        self.enqueue(lambda: None, [event.work])

    def wait_stream(self, other):
        self.enqueue(lambda: None, [other.last])

    def synchronize(self):
        self._device.wait(self.last)


class _Block:
    """Memory of the device, from when it is given out until it is dropped."""

    def __init__(self, held):
        self.held = held
        self.stream = _device.current
        self.users = []
        self._device = _device
        _poison(held)

    def __del__(self):
        held = self.held
        users = [stream.last for stream in self.users]
        if self._device.asked.pop(id(held), None):
            self._device.dropped.append((held.nbytes, users))
        # In no stream: whoever gets it next may write at any time from then on.
        poison = _Work(lambda: _poison(held), [self.stream.last, *users], self.stream)
        self._device.pending.append(poison)


class DeviceTensor(torch.Tensor):
    """A tensor that says it is on a CUDA device; `held` has its numbers, once they are there."""

    @staticmethod
    def __new__(cls, held, block=None):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="cpu",
        )
        made.held = held
        made.block = block or _Block(held)
        return made

    @property
    def device(self):
        return CUDA

    def record_stream(self, stream):
        self.block.users.append(stream)

    def tolist(self):
        _device.current.synchronize()
        return self.held.tolist()

    def __repr__(self):
        return f"DeviceTensor(shape={tuple(self.shape)}, dtype={self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, function, kinds, args=(), kwargs=None):
        return _dispatch(function, args, kwargs or {})


def _dispatch(function, args, kwargs):
    """Views at once, all else in its turn."""
    schema = function._schema
    # What the host hands over is read now: arguments of a launch.
    real = tree_map(_held, (args, kwargs))
    given = next(v for v in tree_flatten((args, kwargs))[0] if isinstance(v, DeviceTensor))
    if schema.name in _WAITS:
        _device.current.synchronize()
        found = function(*real[0], **real[1])
        return _upload(found) if isinstance(found, torch.Tensor) else found
    if schema.is_mutable:
        _device.current.enqueue(lambda: function(*real[0], **real[1]))
        place = next(k for k, a in enumerate(schema.arguments) if a.alias_info is not None)
        return args[place] if place < len(args) else kwargs[schema.arguments[place].name]
    if any(value.alias_info is not None for value in schema.returns):
        views = function(*real[0], **real[1])
        return tree_map(lambda view: DeviceTensor(view, given.block), views)
    blank = tree_map(_blank, real)
    made = tree_map(_wrapped, function(*blank[0], **blank[1]))
    places = [value.held for value in tree_flatten(made)[0]]

    def run():
        found = tree_flatten(function(*real[0], **real[1]))[0]
        for place, value in zip(places, found, strict=True):
            place.copy_(value)

    _device.current.enqueue(run)
    return made


def _held(value):
    if isinstance(value, DeviceTensor):
        return value.held
    return value.clone() if isinstance(value, torch.Tensor) else value


def _blank(value):
    """Of the same shape: tells the shapes of results before there are any."""
    return torch.zeros_like(value) if isinstance(value, torch.Tensor) else value


def _wrapped(value):
    """Fresh memory of the device, of the shape of what an operation on blanks gave."""
    return DeviceTensor(value) if isinstance(value, torch.Tensor) else value


def _poison(values):
    values.fill_(float("nan") if values.is_floating_point() else 1)


class _Placement(TorchFunctionMode):
    """Makes tensors on the device where that is asked for, and copies to it and from it."""

    def __torch_function__(self, function, kinds, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is torch.Tensor.cpu and isinstance(args[0], DeviceTensor):
            return _download(args[0], non_blocking=False)
        if function is torch.Tensor.to:
            place, others = _place_among(args[1:], kwargs)
            moved = args[0]
            if place is not None and place.type == "cuda" and not isinstance(moved, DeviceTensor):
                moved = _upload(moved)
            elif place is not None and place.type == "cpu" and isinstance(moved, DeviceTensor):
                moved = _download(moved, kwargs.get("non_blocking", False))
            kwargs.pop("non_blocking", None)
            return function(moved, *others, **kwargs) if others or kwargs else moved
        if torch.device(kwargs.get("device") or "cpu").type == "cuda":
            made = function(*args, **{**kwargs, "device": "cpu"})
            if function is not torch.empty:
                return _upload(made)
            _device.ask(made)
            return DeviceTensor(made)
        return function(*args, **kwargs)


def _place_among(args, kwargs):
    given = kwargs.pop("device", None)
    others = [a for a in args if not isinstance(a, (str, torch.device))]
    for argument in args:
        if isinstance(argument, (str, torch.device)):
            given = argument
    return (None if given is None else torch.device(given)), others


def _upload(values):
    """From memory of the host that is not pinned: it has been read when the call returns."""
    read = values.clone()
    there = DeviceTensor(torch.empty_like(read))
    place = there.held
    _device.current.enqueue(lambda: place.copy_(read))
    return there


def _download(values, non_blocking):
    here = torch.empty_like(values.held)
    _poison(here)
    source = values.held
    _device.current.enqueue(lambda: here.copy_(source))
    if not non_blocking:
        _device.current.synchronize()
    return here


class Device:
    """The queues of all streams, and who of them is next."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.pending = []
        self.asked = {}  # bytes that `torch.empty` gave out
        self.dropped = []  # bytes dropped, and work that streams still had in hand there
        self.peak = 0  # the most of both
        self._eager = self.draw.choice((0.0, 0.05, 0.5))  # how much is done beside the host
        self._only_needed = self.draw.random() < 0.5

    def ask(self, memory):
        """`torch.empty` gives memory out; the host looks what has been done with by now."""
        self.asked[id(memory)] = memory.nbytes
        self.dropped = [
            (size, users)
            for size, users in self.dropped
            if not all(work is None or work.done for work in users)
        ]
        held = sum(self.asked.values()) + sum(size for size, _ in self.dropped)
        self.peak = max(self.peak, held)

    def drift(self):
        """What the device gets done while the host goes on."""
        while self.draw.random() < self._eager and self.pending:
            self._step(self.pending)

    def wait(self, work):
        """The host waits until something is done; more may be, too."""
        while work is not None and not work.done:
            self._step(_needed(work) if self._only_needed else self.pending)

    def finish(self):
        """The host waits for everything."""
        while self.pending:
            self._step(self.pending)

    def _step(self, among):
        ready = [work for work in among if work.ready()]
        (work,) = self.draw.choices(ready, [work.stream.weight for work in ready])
        work.run()
        work.run, work.done = None, True
        self.pending.remove(work)


def _needed(work):
    """All that has to be done before, and itself."""
    found, rest = {}, [work]
    while rest:
        one = rest.pop()
        if not one.done and id(one) not in found:
            found[id(one)] = one
            rest.extend(one.after)
    return list(found.values())


_device = None


@contextlib.contextmanager
def device(seed, monkeypatch):
    """Let `torch` and `torch.cuda` find a device that a seed drives."""
    global _device
    _device = Device(seed)
    _device.first = _device.current = Stream()

    @contextlib.contextmanager
    def on(stream):
        before, _device.current = _device.current, stream
        try:
            yield
        finally:
            _device.current = before

    for name, stand_in in (
        ("Stream", Stream),
        ("Event", Event),
        ("stream", on),
        ("current_stream", lambda place=None: _device.current),
    ):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    with _Placement():
        yield _device
    _device.finish()


def first_stream():
    """The stream that is current before any other is made so."""
    return _device.first
