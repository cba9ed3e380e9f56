"""A library that prints where it should not, for ``sitecustomize`` of processes under test."""

from __future__ import annotations

import ctypes
import os
import subprocess

LINES = {"printed", "by C", "to the file", "by another process"}


def print_everywhere():
    """From Python, from C with a buffer of its own, to the file itself, and from a process."""
    print("printed")
    ctypes.CDLL(None).puts(b"by C")
    os.write(1, b"to the file\n")
    subprocess.run(["echo", "by another process"], check=True)


def let_the_solver_print():
    import bmatch

    plain = bmatch.solve

    def noisy(*arguments, **options):
        print_everywhere()
        return plain(*arguments, **options)

    bmatch.solve = noisy
