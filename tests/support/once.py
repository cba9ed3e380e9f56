"""What takes long to build, once for all processes of a test run."""

from __future__ import annotations

import fcntl
import os
import shutil


def once(tmp_path_factory, name, make):
    """The folder `name`, filled by make(folder) in the first process that asks; others wait."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers
    folder = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = root / f"{name}.made"
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
