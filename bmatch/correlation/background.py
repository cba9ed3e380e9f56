"""Batches added to moments beside the work that makes the next ones.

On a CUDA device the moments have a CUDA stream of their own, which is always one batch behind:
while the models read batch k + 1, the products of batch k run. What the host must know of a batch,
whether it is finite and which channels were shifted, it asks only then, so it never keeps the
models waiting. At most one batch is on its way, which bounds the memory to two batches. On the CPU
there is nothing to overlap, and a batch is added at once.
"""

from __future__ import annotations

import torch

from bmatch.correlation.site_moments import PendingUpdate, SiteMoments

BATCHES_HELD = 2
"""Batches in memory at once on a CUDA device: one that is made and one that is added."""


class BackgroundUpdates:
    """Adds batches to `moments`, on a CUDA device on a second CUDA stream.

    Use it as a context: at its end all batches have been added, in order, and the moments are again
    as if they had been updated on the caller's CUDA stream. Bits are those of `SiteMoments.update`.

    Parameters
    ----------
    moments : SiteMoments
        Not to be touched from elsewhere before the end, but for reading what `settle` returns.

    Raises
    ------
    ValueError
        As `SiteMoments.update`, from `add` for the batch before, or at the end for the last one.
    """

    def __init__(self, moments: SiteMoments) -> None:
        self._moments = moments
        self._cuda_stream: torch.cuda.Stream | None = None
        self._pending: PendingUpdate | None = None
        self._added: torch.cuda.Event | None = None
        if moments.device.type == "cuda":
            self._cuda_stream = torch.cuda.Stream(moments.device)  # type: ignore[no-untyped-call]
            self._cuda_stream.wait_stream(torch.cuda.current_stream(moments.device))

    def wait_for_room(self) -> None:
        """To be called before a batch is made: wait until at most one is on its way."""
        if self._added is not None:
            self._added.synchronize()

    def add(self, target: torch.Tensor, source: torch.Tensor, mask: torch.Tensor) -> None:
        """Hand over a batch as for `SiteMoments.update`, not to be written to any more.

        All three live on the device of the moments.
        """
        if self._cuda_stream is None:
            self._moments.update(target, source, mask)
            return
        made = torch.cuda.current_stream(self._moments.device).record_event()
        with torch.cuda.stream(self._cuda_stream):
            self._finish(self._cuda_stream)
            self._cuda_stream.wait_event(made)
            for values in (target, source, mask):
                values.record_stream(self._cuda_stream)
            self._pending = self._moments.begin(target, source, mask)

    def settle(self) -> SiteMoments:
        """The moments with all batches in them that were handed over, to be read at once."""
        if self._cuda_stream is not None:
            with torch.cuda.stream(self._cuda_stream):
                self._finish(self._cuda_stream)
            torch.cuda.current_stream(self._moments.device).wait_stream(self._cuda_stream)
        return self._moments

    def _finish(self, cuda_stream: torch.cuda.Stream) -> None:
        """Add the batch on its way; its sums were ready long ago, so this hardly waits."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._moments.finish(pending)
            self._added = cuda_stream.record_event()

    def __enter__(self) -> BackgroundUpdates:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self.settle()
        elif self._cuda_stream is not None:
            torch.cuda.current_stream(self._moments.device).wait_stream(self._cuda_stream)
