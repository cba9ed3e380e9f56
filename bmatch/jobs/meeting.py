"""Where the ranks of one start meet in torchrun's store: in a corner that no earlier start knew.

torchrun starts all ranks anew when one is lost, and its store still has what the last ones wrote
there: addresses at which nobody listens. Each host counts the starts for itself, so their number
is no name that all agree on (https://github.com/pytorch/pytorch/issues/135712). Here every process
makes up a name, and goes by that of the first rank once it has heard it.
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store

_LOOK = 0.02  # seconds from look to look


def met(store: Store, rank: int, world: int, patience: timedelta) -> str:
    """The name of this start, once all ranks have come: the same at all of them.

    Signals are heeded while the others are waited for.

    Raises
    ------
    ConnectionError
        If another does not come in time.
    """
    name = secrets.token_hex(8)
    until = time.monotonic() + patience.total_seconds()
    if rank:
        store.set(f"bmatch/{rank}", name)
        answer = f"bmatch/answer/{name}"
        while not store.check([answer]):
            _wait(until, [0])
        start = store.get(answer).decode()
        store.set(f"bmatch/{start}/{rank}", name)
        return start
    missing = list(range(1, world))
    while missing:
        # Of those that have come before nobody hears the answer, and one is given to the next.
        for other in missing:
            if store.check([f"bmatch/{other}"]):
                store.set(f"bmatch/answer/{store.get(f'bmatch/{other}').decode()}", name)
        missing = [other for other in missing if not store.check([f"bmatch/{name}/{other}"])]
        if missing:
            _wait(until, missing)
    return name


def _wait(until: float, missing: list[int]) -> None:
    if time.monotonic() > until:
        names = ", ".join(map(str, missing))
        raise ConnectionError(f"rank {names} of the job has not come: start it again")
    time.sleep(_LOOK)
