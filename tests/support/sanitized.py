"""The C++ of the CPU, compiled with a sanitizer: for checks in C++ and for the kernels' checks."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from once import once
from sources import COMPILER, ROOT, sources

SANITIZERS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}
FOLDERS = ("assignment", "correlation", "files")


def command(sanitizer):
    """To compile, and to link."""
    flags = ["-std=c++17", "-O1", "-g1", "-ffp-contract=off", f"-I{ROOT / 'csrc'}"]
    return [COMPILER, *flags, *SANITIZERS[sanitizer]]


def compile_all(paths, folder, sanitizer):
    """Their objects, in `folder`; a process a core."""

    def build(source):
        target = folder / f"{'-'.join(source.relative_to(ROOT).parts)}.o"
        subprocess.run([*command(sanitizer), "-c", source, "-o", target], check=True)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(build, paths))


def compiled(tmp_path_factory, sanitizer):
    """All of it as an archive."""

    def build(folder):
        objects = compile_all(sources(*FOLDERS), folder, sanitizer)
        subprocess.run(["ar", "rcs", folder / "libcpu.a", *objects], check=True)

    return once(tmp_path_factory, sanitizer, build) / "libcpu.a"
