"""The processes that torchrun starts, as seen by one of them; alone where there are no others.

Only what crosses from one to another is here: objects from the first to all, arrays and objects
from each to the first. Who reads what is the caller's business.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bmatch.jobs.device import SPREAD
from bmatch.jobs.meeting import met
from bmatch.jobs.processes import is_there

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store

_LOOK = 1.0  # seconds from look to look whether torchrun is there
_PATIENCE = 10.0  # seconds that a rank has to end by itself
_ENDED = (128 + signal.SIGTERM, 128 + signal.SIGHUP)  # codes of those whom a signal ends
_OF_BACKENDS = r"(?i)gloo|nccl|connection|socket"  # in their errors, and not in those of models
_TOLD = "told"
_TORCHRUN = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")


@dataclass(frozen=True)
class Ranks:
    """One process among those of a job.

    Attributes
    ----------
    rank : int
        Its number, from 0 on.
    world : int
        How many there are.
    notes : Store, optional
        What torchrun keeps of this job, though it starts all ranks anew. Default: nothing is kept.
    """

    rank: int = 0
    world: int = 1
    notes: Store | None = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> bool:
        """Whether it is the one that solves, writes and prints."""
        return self.rank == 0

    def told(self, value: Any = None) -> Any:
        """The first rank's `value`, at all ranks: any object that can be pickled.

        Raises
        ------
        ConnectionError
            If a rank was lost; so do the other methods.
        """
        if self.world == 1:
            return value
        import torch.distributed as dist

        held = [value]
        with self._listening():
            dist.broadcast_object_list(held, src=0)
        return held[0]

    def gathered(self, value: Any) -> list[Any]:
        """Each rank's `value` in their order, at the first rank; elsewhere nothing."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        held: list[Any] = [None] * self.world if self.first else []
        with self._listening():
            dist.gather_object(value, held if self.first else None, dst=0)
        return held

    def send(self, values: torch.Tensor) -> None:
        """Hand a contiguous tensor to the first rank, which waits for it in `receive`."""
        import torch.distributed as dist

        with self._listening():
            dist.send(values, dst=0)

    def receive(self, values: torch.Tensor, rank: int) -> None:
        """Fill a contiguous tensor with what that rank sends."""
        import torch.distributed as dist

        with self._listening():
            dist.recv(values, src=rank)

    @contextmanager
    def running_together(self) -> Iterator[None]:
        """While the block lasts, models run that the ranks have shards of, and gather.

        Raises
        ------
        ConnectionError
            If a rank was lost.
        """
        with self._listening(_OF_BACKENDS):
            yield

    @contextmanager
    def _listening(self, mark: str = "") -> Iterator[None]:
        """Where the backends speak of sockets, say what it means; of errors that have the mark."""
        try:
            yield
        except RuntimeError as error:
            if not re.search(mark, str(error)):
                raise
            # Without lines of its source and the advice to read logs.
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            reason = re.sub(r"\[[^]]*:\d+\] ", "", said).partition(". ")[0]
            raise ConnectionError(
                f"rank {self.rank} of {self.world} hears nothing more of another, which was lost "
                f"or is too slow ({reason}): start again with any number of ranks, and it goes on "
                "from what was kept last"
            ) from None


ALONE = Ranks()
"""A process that has no others beside it."""


@contextmanager
def joined(device: str = "cpu", minutes: float = 30.0) -> Iterator[Ranks]:
    """While the block lasts, the ranks that torchrun started can speak to each other.

    Parameters
    ----------
    device : str
        Where tensors that cross may live: by gloo on the CPU, by NCCL on CUDA devices.
    minutes : float
        Without a word for so long, a rank counts as lost.

    Yields
    ------
    Ranks
        `ALONE` where torchrun started no process, or one.

    Raises
    ------
    ConnectionError
        If not all of them come; or if torchrun ends this one, and none before it on its host is
        left to tell that.
    """
    if not _has_others():
        yield ALONE
        return
    over = threading.Event()
    torchrun = _parents[-1] if _parents else os.getppid()
    threading.Thread(target=_end_without, args=(torchrun, over), daemon=True).start()
    try:
        yield from _joined(device, minutes)
    finally:
        over.set()


_parents: list[int] = []


def begun_by(process: int) -> None:
    """Note who began this process, as it was at the very start: it ends when torchrun is gone."""
    _parents.append(process)


def is_told_by_another() -> bool:
    """Whether a rank before this one on its host says what all of them find at once.

    Such are help and refusals of the command line. Who returns with an error has to `wait_to_end`,
    or torchrun may end the one that tells it.
    """
    return _has_others() and os.environ["LOCAL_RANK"] != "0"


def wait_to_end() -> None:
    """Until torchrun ends this process, for another has told what was wrong; or for long enough."""
    time.sleep(_PATIENCE)


def require_one_process(what: str) -> None:
    """Refuse what ranks do not share, which each of them would do, and write to the same place.

    The first rank of each host tells it, and torchrun ends the others.

    Parameters
    ----------
    what : str
        As the sentence has it.

    Raises
    ------
    ValueError
        If torchrun started others beside this process.
    """
    if not _has_others():
        return
    if is_told_by_another():
        wait_to_end()
    raise ValueError(f"{what} is the work of one process: start it without torchrun")


def _has_others() -> bool:
    return all(name in os.environ for name in _TORCHRUN) and os.environ["WORLD_SIZE"] != "1"


def _joined(device: str, minutes: float) -> Iterator[Ranks]:
    import torch.distributed as dist

    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    if backend != "gloo":
        import torch

        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    patience = timedelta(minutes=minutes)
    before = [] if ranks.first else [os.getppid()]  # until these are known, others tell
    start: Store | None = None
    try:
        with ranks._listening():
            store, *_ = next(dist.rendezvous("env://", timeout=patience))
            store.set_timeout(patience)
            start = dist.PrefixStore(met(store, ranks.rank, ranks.world, patience), store)
            ranks = replace(ranks, notes=_whole(store))
            dist.init_process_group(
                backend,
                timeout=patience,
                world_size=ranks.world,
                rank=ranks.rank,
                store=start,
            )
        before = _before(ranks)
        yield ranks
    except SystemExit as ending:
        if ending.code not in _ENDED or any(map(is_there, before)) or _is_told(start):
            raise
        raise ConnectionError(
            "torchrun ended this job, as it does when a rank is lost; nothing was left "
            "half-written, and started again it goes on from what was kept last"
        ) from None
    except ConnectionError:
        if not ranks.first and _is_told(start):
            raise SystemExit(1) from None
        raise
    except Exception:
        if ranks.first and start is not None:
            with suppress(RuntimeError):
                start.set(_TOLD, "")
        elif not ranks.first:
            time.sleep(_LOOK)  # what all of them find is told by the first
            if _is_told(start):
                raise SystemExit(1) from None
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _whole(store: Store) -> Store:
    """All of it, where torch has given this start a corner that later ones do not see."""
    import torch.distributed as dist

    while isinstance(store, dist.PrefixStore):
        store = store.underlying_store
    return store


def _is_told(start: Store | None) -> bool:
    """Whether the first rank has ended for a reason of its own, which it tells."""
    told: list[bool] = []

    def ask() -> None:
        with suppress(RuntimeError):
            told.append(start is not None and start.check([_TOLD]))

    asking = threading.Thread(target=ask, daemon=True)  # a host that is silent answers never
    asking.start()
    try:
        asking.join(_PATIENCE)
    except SystemExit:  # it is on its way out already, and need not be told twice
        asking.join(_PATIENCE)
    return told == [True]


def _before(ranks: Ranks) -> list[int]:
    """The processes of those ranks before this one that are on its host."""
    host = os.environ["GROUP_RANK"]
    processes = ranks.told(ranks.gathered((host, os.getpid())))
    return [process for other, process in processes[: ranks.rank] if other == host]


def _end_without(torchrun: int, over: threading.Event) -> None:
    """End this process if torchrun is killed, or it would wait for others for long and in vain."""
    while not over.wait(_LOOK):
        if os.getppid() != torchrun:
            os.kill(os.getpid(), signal.SIGTERM)
            if not over.wait(_PATIENCE):  # it waits where no signal is heeded
                os._exit(128 + signal.SIGTERM)


def own_device(device: str, ranks: Ranks) -> str:
    """The device of this rank: of ``cuda`` each process of a machine takes its own.

    Raises
    ------
    ValueError
        If one process takes all of them.
    """
    if device == SPREAD:
        require_one_process("--device auto")
    if device == "cuda" and ranks.world > 1:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device
