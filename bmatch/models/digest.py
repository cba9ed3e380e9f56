"""Which weights these are: a hash of named tensors, which are found finite on the way.

Of a tensor, SHA-256 takes in dtype and shape, the XXH3-128 of every whole MiB, and the bytes behind
the last of them: what differs by chance is told apart at the speed of memory. The digest is SHA-256
of lines "name hash". Once SHA-256 took in all bytes, which took longer than to write them; digests
in older gauges are of that kind, and are still compared.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from bmatch import _core

if TYPE_CHECKING:
    import torch

KIND = "xxh3:"
"""What a digest begins with; those of older gauges begin with nothing."""
_PIECE = _core.HASHED_PIECE


class Digest:
    """A hash of a set of named tensors, whatever their order and their division into shards.

    Several threads may add to it.

    Parameters
    ----------
    like : str, optional
        A digest with which it is to be compared: it is of that kind.
    """

    def __init__(self, like: str | None = None) -> None:
        self.is_old = like is not None and not like.startswith(KIND)
        self.parts: dict[str, str] = {}

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Take in one tensor, finite or not."""
        Look(self, name, tensor)(tensor.nbytes)

    def told(self) -> str:
        """The digest of what has been taken in."""
        listed = "\n".join(f"{name} {self.parts[name]}" for name in sorted(self.parts))
        return ("" if self.is_old else KIND) + hashlib.sha256(listed.encode()).hexdigest()


class Look:
    """Takes a tensor into a digest as it is read, and refuses what is not finite.

    Parameters
    ----------
    digest : Digest
    name : str
    tensor : tensor
        On the CPU.
    where : path, optional
        Where it lies, as errors tell it; without it NaN and infinity are taken in, too.
    """

    def __init__(
        self, digest: Digest, name: str, tensor: torch.Tensor, where: Path | None = None
    ) -> None:
        import torch

        self._digest, self._name, self._where = digest, name, where
        self._tensor = tensor.contiguous()
        self._bytes = self._tensor.reshape(-1).view(torch.uint8)
        self._hash = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        self._done = 0
        has_order = tensor.is_floating_point() and tensor.itemsize > 1
        self._size = tensor.itemsize if where is not None and has_order else 0
        if where is not None and not has_order:
            require_finite(name, tensor, where)

    def __call__(self, end: int, threads: int = 1) -> None:
        """Take in the bytes before `end`; less than a piece of them may wait for the next call.

        Raises
        ------
        ValueError
            If some of them are not finite, as `require_finite` tells it.
        """
        is_last = end == len(self._bytes)
        fresh = self._bytes[self._done : end if is_last else end // _PIECE * _PIECE]
        self._done += len(fresh)
        whole = 0 if self._digest.is_old else len(fresh) // _PIECE
        most = 0
        if whole:
            hashes, most = _core.look_over(fresh.data_ptr(), whole, self._size, threads)
            self._hash.update(hashes)
        rest = fresh[whole * _PIECE :]
        self._hash.update(rest.numpy().data)
        if self._size and self._where is not None:
            count = len(rest) // self._size
            most = max(most, _core.largest_magnitude(rest.data_ptr(), count, self._size))
            if most >= _infinity(self._tensor.dtype):
                require_finite(self._name, self._tensor, self._where)
        if is_last:
            self._digest.parts[self._name] = self._hash.hexdigest()


def differ(one: str | None, other: str | None) -> bool:
    """Whether digests tell that weights are not the same: both are there, and of one kind."""
    if not one or not other or one.startswith(KIND) != other.startswith(KIND):
        return False
    return one != other


def shown(digest: str) -> str:
    """As much of a digest as a sentence shows."""
    kind = KIND if digest.startswith(KIND) else "SHA-256 "
    return kind + digest.removeprefix(KIND)[:12]


def require_finite(name: str, tensor: torch.Tensor, where: Path | str) -> None:
    """Refuse weights with NaN or infinity in them.

    Raises
    ------
    ValueError
        Naming the tensor and how many of its entries are not finite.
    """
    import torch

    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    wide = tensor.float() if tensor.itemsize == 1 else tensor  # types of 8 bits have no order
    if tensor.itemsize > 1 and tensor.device.type == "cpu":
        whole = tensor.contiguous()
        most = _core.largest_magnitude(whole.data_ptr(), whole.numel(), tensor.itemsize)
        finite = most < _infinity(tensor.dtype)
    else:
        finite = bool(torch.stack(wide.aminmax()).isfinite().all())
    if not finite:
        bad = int((~wide.isfinite()).sum())
        if bad:
            raise ValueError(
                f"{name} in {where} holds {bad} NaN or infinite weights: the checkpoint is broken"
            )


def _infinity(dtype: torch.dtype) -> int:
    """Its bits, as a number; of floating types of more than 8 bits."""
    import torch

    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    return int(torch.tensor(torch.inf, dtype=dtype).view(bits).item())
