"""Room in memory that several threads share: who finds too little waits till others are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition


class Room:
    """So many bytes, of which threads take what they need; alone, one may take more than there is.

    Parameters
    ----------
    size : int
    """

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._changed = Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[Callable[[int], None]]:
        """While it lasts, so many bytes are taken; given is a function that makes do with fewer."""
        held = size
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self._taken += size

        def keep(less: int) -> None:
            nonlocal held
            with self._changed:
                self._taken -= held - less
                held = less
                self._changed.notify_all()

        try:
            yield keep
        finally:
            keep(0)
