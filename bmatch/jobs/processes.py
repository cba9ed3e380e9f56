"""Work shared out to processes, each of which hands back results as they come.

They end with the job, whichever way that ends: even one that is killed leaves none behind.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar

Task = TypeVar("Task")
Found = TypeVar("Found")


def is_there(process: int) -> bool:
    """Whether it runs, or has ended and nobody has asked how: by its number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


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
            # Pickled here: it looks after itself before it imports what the work needs.
            task = pickle.dumps((work, given))
            process = fresh.Process(target=_serve, args=(task, theirs), daemon=True)
            with _deaf_to_ctrl_c():
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


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started here never hear it: it is the job's own to heed."""
    resource_tracker.ensure_running()  # which hears it again once it has been started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(task: bytes, theirs: Connection) -> None:
    threading.Thread(target=_end_with_the_job, daemon=True).start()
    # It begins no process, but libraries make locks, as tqdm does, and of others the names would
    # have to be cleared away behind it when it is ended.
    multiprocessing.set_start_method("fork", force=True)
    try:
        work, given = pickle.loads(task)
        for found in work(given):
            theirs.send(found)
    except BrokenPipeError:
        pass
    except Exception as error:
        theirs.send(_Failed(error))
    theirs.close()


def _end_with_the_job() -> None:
    job = multiprocessing.parent_process()
    assert job is not None
    job.join()
    os._exit(1)
