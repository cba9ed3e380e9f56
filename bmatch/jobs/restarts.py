"""The end of a job that torchrun may start again, though the first rank has done all there is.

Where another rank is lost so late, all begin anew and find outputs of their own. The first rank
notes which files these are before they have their names, and at last that all has been told; the
notes are in torchrun's store, which its starts have in common, and goes with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bmatch.jobs.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed import Store

_OUTPUTS, _CODE = "bmatch/outputs", "bmatch/code"


def earlier_code(ranks: Ranks) -> int | None:
    """The exit code of an earlier start of this job that came to its end, at all ranks; or None.

    Outputs of one that was ended before it had told of them are removed, to be written again.

    Raises
    ------
    ConnectionError
        If a rank was lost.
    """
    code: int | None = ranks.told(_code(ranks.notes) if ranks.first and ranks.notes else None)
    return code


def note_outputs(ranks: Ranks, written: Mapping[Path, Path]) -> None:
    """Note which files these are, so that a later start knows them for its own.

    Parameters
    ----------
    ranks : Ranks
        This is the first.
    written : dict of Path to Path
        Where each is now, by the path that it will have: it stays the same file.
    """
    files = {str(final.absolute()): _file(path) for final, path in written.items()}
    _note(ranks, _OUTPUTS, json.dumps(files))


def note_end(ranks: Ranks, code: int) -> None:
    """Note that all has been written and told, and the exit code; this is the first rank."""
    _note(ranks, _CODE, str(code))


def _note(ranks: Ranks, key: str, value: str) -> None:
    if ranks.notes is not None:
        with suppress(RuntimeError):  # torchrun is gone, and starts nothing again
            ranks.notes.set(key, value)


def _code(notes: Store) -> int | None:
    noted = json.loads(notes.get(_OUTPUTS)) if notes.check([_OUTPUTS]) else {}
    own = [path for path, file in noted.items() if _file(Path(path)) == file]
    if notes.check([_CODE]) and len(own) == len(noted):
        return int(notes.get(_CODE))
    for path in own:
        Path(path).unlink()
    return None


def _file(path: Path) -> list[int] | None:
    """What tells a file from others, whatever its name; the same on all hosts that see it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]
