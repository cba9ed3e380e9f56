"""Merges that mergekit knows, of checkpoints that are carried to one's coordinates first.

SLERP, TIES (P. Yadav et al., NeurIPS 2023) and DARE (L. Yu et al., ICML 2024) by mergekit 0.1.5
and newer, whose command is run: it may live in an environment of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from bmatch.files.atomic import new_folder
from bmatch.jobs.progress import Progress, silent
from bmatch.transport.merge import Merged
from bmatch.transport.weights import checkpoint

MergekitMethod: TypeAlias = Literal["slerp", "ties", "dare_ties", "dare_linear"]
COMMAND = "mergekit-yaml"
_SEED = 0  # of DARE, which drops entries at random


def merge_by_mergekit(
    base: str | os.PathLike[str],
    models: Sequence[Merged],
    out: str | os.PathLike[str],
    method: MergekitMethod,
    *,
    density: float | None = None,
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Carry checkpoints to the coordinates of one of them, and have mergekit merge them there.

    Parameters
    ----------
    base, models, out, progress, tell
        As for `merge`. Of SLERP there is one model, and its weight is how far to go to it.
    method : {"slerp", "ties", "dare_ties", "dare_linear"}
        As mergekit calls them.
    density : float, optional
        The share of entries that TIES and DARE keep of a change. Default: mergekit's own.

    Raises
    ------
    FileNotFoundError
        If there is no command ``mergekit-yaml`` beside Python or on the PATH, or as `checkpoint`.
    FileExistsError, ValueError, OSError
        As `checkpoint`; if the method or the density is none of mergekit's, or mergekit fails.
        Nothing is left behind in any of these cases.
    """
    if method not in get_args(MergekitMethod):
        known = ", ".join(get_args(MergekitMethod))
        raise ValueError(f"method must be one of {known}; got {method!r}")
    if method == "slerp" and (len(models) != 1 or density is not None):
        raise ValueError("slerp goes from the base to one other model, and keeps all entries")
    if not models:
        raise ValueError("one checkpoint is nothing to merge: name another")
    if density is not None and not 0 < density <= 1:
        raise ValueError(f"density must be above 0 and at most 1; got {density}")
    command = find_mergekit(method)
    with new_folder(out) as made:
        carried = made.absolute() / ".carried"
        carried.mkdir()
        places = []
        for number, model in enumerate(models):
            places.append(Path(model.folder).absolute())
            if model.gauge is not None:
                places[-1] = carried / str(number)
                checkpoint(model.folder, model.gauge, places[-1], progress, tell)
        plan = carried / "plan.yml"
        shares = [model.weight for model in models]
        plan.write_text(json.dumps(_plan(method, Path(base).absolute(), places, shares, density)))
        _run([command, str(plan), str(made), "--random-seed", str(_SEED)], method)
        for told in (made / "mergekit_config.yml", made / "README.md"):
            if told.is_file():  # of where the carried models lay, which are gone
                text = told.read_text(encoding="utf-8")
                for place, model in reversed(list(zip(places, models, strict=True))):
                    text = text.replace(str(place), str(Path(model.folder).absolute()))
                told.write_text(text, encoding="utf-8")
        shutil.rmtree(carried)


def find_mergekit(method: str) -> str:
    """The command that merges by a method of mergekit's.

    Raises
    ------
    FileNotFoundError
        If it is neither beside Python nor on the PATH.
    """
    beside = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", "")))
    found = shutil.which(COMMAND, path=beside)
    if found is None:
        raise FileNotFoundError(
            f"{method} is mergekit's, and there is no command {COMMAND}: pip install mergekit, "
            "here or in an environment whose commands are on the PATH"
        )
    return found


def _plan(
    method: str, base: Path, models: Sequence[Path], shares: Sequence[float], density: float | None
) -> dict[str, Any]:
    """The config of a merge, which is YAML, as JSON is."""
    if method == "slerp":
        both = [{"model": str(path)} for path in (base, *models)]
        return {"merge_method": method, "base_model": str(base), "models": both} | {
            "parameters": {"t": shares[0]}
        }
    kept = {} if density is None else {"density": density}
    told = [
        {"model": str(path), "parameters": {"weight": share, **kept}}
        for path, share in zip(models, shares, strict=True)
    ]
    return {"merge_method": method, "base_model": str(base), "models": told}


def _run(command: Sequence[str], method: str) -> None:
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["without a word"]
        raise ValueError(f"mergekit failed at {method}: {said[-1]}")
