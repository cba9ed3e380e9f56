"""Tasks that several threads take in their order; the first that fails ends them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait


class OverError(Exception):
    """Raised by a task that has seen that another has failed; it is not told."""


def in_turn(
    tasks: Sequence[Callable[[], None]], threads: int, stop: Callable[[], None] = lambda: None
) -> None:
    """Do tasks, the first ones first, as many at once as there are threads.

    Parameters
    ----------
    tasks : sequence of callable
    threads : int
    stop : callable, optional
        Is called when one has failed, or the caller is interrupted: those that have begun then do
        well to end with `OverError`; no other begins.

    Raises
    ------
    Exception
        What the first that failed has raised, once all have ended.
    """
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(task) for task in tasks]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:  # an interrupt of the caller ends it, too
            if any(task.cancelled() or not task.done() or task.exception() for task in running):
                stop()
            pool.shutdown(wait=True, cancel_futures=True)
    # Who has given up may have ended before the one whose failure it saw.
    failures = [error for task in running if (error := _failure(task)) is not None]
    for error in sorted(failures, key=lambda error: isinstance(error, OverError)):
        raise error


def _failure(task: Future[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()
