"""Commands that torchrun has started again, though they had come to their end."""

from __future__ import annotations

from functools import partial

import typer

from bmatch.cli import console
from bmatch.jobs.ranks import Ranks
from bmatch.jobs.restarts import earlier_code, note_end


def is_over(ranks: Ranks) -> bool:
    """Whether nothing is left to do, which the first rank tells; all ranks ask.

    Raises
    ------
    typer.Exit
        At the first rank, if the earlier start's exit code was not 0.
    ConnectionError
        If a rank was lost.
    """
    code = earlier_code(ranks)
    if code is None:
        if ranks.first:
            console.when_told(partial(note_end, ranks))
        return False
    if ranks.first:
        console.note(
            "torchrun has started this job again, and it had come to its end: what it wrote and "
            "told holds"
        )
        if code:
            raise typer.Exit(code)
    return True
