"""Work shared out to processes, each of which hands back results as they come.

A process that nobody listens to any more ends with its next result: a job that was killed leaves
none behind for long.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar

Task = TypeVar("Task")
Found = TypeVar("Found")


class _Failed(NamedTuple):
    error: Exception


def shares(tasks: Sequence[Task], count: int) -> list[Sequence[Task]]:
    """Tasks in so many runs of neighbours of nearly one length; none is empty."""
    count = min(count, len(tasks))
    cuts = [k * len(tasks) // count for k in range(count + 1)] if count else [0]
    return [tasks[a:b] for a, b in pairwise(cuts)]


def in_processes(work: Callable[[Any], Iterable[Found]], inputs: Sequence[Any]) -> Iterator[Found]:
    """What ``work(input)`` yields for every input, each in a process of its own, as it comes.

    Parameters
    ----------
    work : callable
        A function of a module, or a partial of one: processes begin afresh and import it. Where
        they are begun from a script, that has to be guarded by ``if __name__ == "__main__"``.
    inputs : sequence
        One for each process.

    Raises
    ------
    ChildProcessError
        If a process ends before it is done. What it raises is raised here; the others are ended.
    """
    fresh = multiprocessing.get_context("spawn")  # neither threads nor devices survive a fork
    running: dict[Connection, Any] = {}
    try:
        for given in inputs:
            ours, theirs = fresh.Pipe(duplex=False)
            process = fresh.Process(target=_serve, args=(work, given, theirs), daemon=True)
            process.start()
            theirs.close()
            running[ours] = process
        while running:
            for ours in [end for end in wait(list(running)) if isinstance(end, Connection)]:
                try:
                    message = ours.recv()
                except EOFError:
                    process = running.pop(ours)
                    process.join()
                    if process.exitcode:
                        raise ChildProcessError(
                            f"a process of the job ended with code {process.exitcode}, perhaps for "
                            "want of memory: begin again with fewer"
                        ) from None
                    continue
                if isinstance(message, _Failed):
                    raise message.error
                yield message
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _serve(work: Callable[[Any], Iterable[Any]], given: Any, theirs: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the job's own to heed
    try:
        for found in work(given):
            theirs.send(found)
    except BrokenPipeError:
        pass
    except Exception as error:
        theirs.send(_Failed(error))
    theirs.close()
