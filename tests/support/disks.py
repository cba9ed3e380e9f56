"""Small file systems of their own, which can be full, read-only or gone."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def disk(folder, size):
    """A file system of so many bytes at a folder, made for it; skips where none may be mounted.

    Yields a function that mounts it again with other options.
    """
    folder.mkdir()
    options = f"size={size}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield lambda mode: subprocess.run(["mount", "-o", f"remount,{mode}", folder], check=True)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
