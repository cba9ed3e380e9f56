"""``bmatch path`` killed at random moments and gone on from: is the file the same?

``python tests/trajectory/kills.py RUN_A RUN_B [--kills 10] [options of bmatch path]``
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_a", type=Path)
    parser.add_argument("run_b", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options, others = parser.parse_known_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)

        def kept(cache):
            return len(list(cache.glob("[0-9a-f]*.safetensors")))

        def start(out, cache):
            command = [
                sys.executable,
                "-m",
                "bmatch",
                "path",
                options.run_a,
                options.run_b,
                *others,
            ]
            command += ["--cache", work / cache, "--out", work / out]
            return subprocess.Popen(command, stdout=subprocess.DEVNULL)

        for cache in ("warm", "one"):
            begin = time.monotonic()
            if start(f"whole {cache}", cache).wait():
                raise SystemExit("the path fails even when it is left alone")
        whole = time.monotonic() - begin
        print(f"left alone: {whole:.1f} s, {kept(work / 'one')} parts", flush=True)
        for number in range(options.kills):
            out, cache = f"out {number}", f"cache {number}"
            process = start(out, cache)
            try:
                moment = moments.uniform(0, whole)
                process.wait(moment)
                told = "was done"
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                told = f"{kept(work / cache)} parts kept, {'no' * (not (work / out).exists())} file"
            print(f"{number}: after {moment:.1f} s: {told}", flush=True)
            if not (work / out).exists() and start(out, cache).wait():
                raise SystemExit("the path that was killed fails when it goes on")
            if (work / out).read_bytes() != (work / "whole one").read_bytes():
                raise SystemExit("ANOTHER FILE")
        print("the same file each time, byte for byte")


if __name__ == "__main__":
    main()
