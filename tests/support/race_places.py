"""Whatever orders memory in the CUDA solver's kernels, and kernels that do without it.

One program, built once, holds all faults: in a copy of the kernels each place can be left out, or
weakened, as the environment says. `python tests/support/race_places.py` lists the places and by
what each is missed: by the detector, by fibers alone (a wrong answer, a crash, threads that wait
for ever).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from races import CASES, ENDLESS, NATIVE, REPORTED, WRONG, build, run
from sources import KERNELS

# Barriers and fences are left out, other calls become weaker.
ORDERING = r"(?:team_?\.sync|__syncthreads|__syncwarp|__threadfence)\(\)(?=;)"
WEAKENED = r"(?:add_release|load_acquire|put|raise)\("
PLACE = re.compile(rf"(?<![:\w])(?:{ORDERING}|{WEAKENED})")
SEEDS = (3, 1, 2)  # the first catches all faults but a few
SWITCH = """
namespace planted {
inline int number(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}
inline const int missing = number("MISSING_PLACE", -1);
inline bool kept(int place) { return place != missing; }
// Few threads a block, so that warps of several blocks mix.
inline unsigned threads(int usual) { return static_cast<unsigned>(number("THREADS", usual)); }
inline void add_release(unsigned* p, unsigned x) { atomicAdd(p, x); }
inline unsigned load_acquire(const unsigned* p) {
  host::yield();
  return *const_cast<const volatile unsigned*>(p);
}
template <typename T, typename X>
void put(T* p, X x) { *p = x; }
inline void raise(int* p) { *p = 1; }
}  // namespace planted
"""


# Never run, as long as the forest is right: what is missing there cannot show.
SILENT = "raise(&control_.broken)"
# Races that the kernels once had: files, code of today, and what stood there.
FAULTS = {
    "trees that grow while a round works on them": (
        ("whole_rows.h", "(those.count + kWarp - 1)", "(peek(&s.control->tree) + kWarp - 1)"),
        ("whole_rows.h", "(k < those.count)", "(k < peek(&s.control->tree))"),
    ),
    "row duals handed over that nobody has written": (
        (
            "solver.cu",
            "has ? peek(found.u + i) : not_a_number()",
            "there ? peek(found.u + i) : not_a_number()",
        ),
    ),
}


@dataclasses.dataclass(frozen=True)
class Place:
    """Code that orders memory."""

    file: str
    line: int
    start: int  # in the file
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.text}"


def call_at(text: str, start: int) -> str:
    """From `start` to the parenthesis that closes the first one."""
    depth = 0
    for end in range(text.index("(", start), len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[start : end + 1]
    raise ValueError(f"a parenthesis is not closed: {text[start : start + 80]}")


@functools.cache
def places() -> tuple[Place, ...]:
    found = []
    for path in sorted([*KERNELS.glob("*.h"), *KERNELS.glob("*.cu")]):
        text = path.read_text()
        for match in PLACE.finditer(text):
            before = text[: match.start()].rpartition("\n")[2]
            if "//" in before or "__device__" in before:  # a comment, a definition
                continue
            line = text.count("\n", 0, match.start()) + 1
            place = Place(path.name, line, match.start(), call_at(text, match.start()))
            if place.text != SILENT:
                found.append(place)
    return tuple(found)


def faults() -> list[str]:
    """By number: the places, one missing each, then what the kernels once had."""
    return [*map(str, places()), *FAULTS]


def plant(folder: Path) -> Path:
    """A copy of the kernels, in `folder`, in which every place has a switch."""
    kernels = folder / "cuda"
    shutil.copytree(KERNELS, kernels)
    runtime = kernels / "host/cuda_runtime.h"
    runtime.write_text(runtime.read_text() + SWITCH)
    for number, place in reversed(list(enumerate(places()))):
        path = kernels / place.file
        text = path.read_text()
        instead = "void()" if place.text.endswith("()") else f"planted::{place.text}"
        switched = f"(planted::kept({number}) ? {place.text} : {instead})"
        path.write_text(text[: place.start] + switched + text[place.start + len(place.text) :])
    for number, edits in enumerate(FAULTS.values(), len(places())):
        for file, code, before in edits:
            text = (kernels / file).read_text()
            assert text.count(code) == 1, code
            switched = f"(planted::kept({number}) ? ({code}) : ({before}))"
            (kernels / file).write_text(text.replace(code, switched))
    solver = kernels / "solver.cu"
    text = solver.read_text().replace("constexpr unsigned k", "const unsigned k")
    text, found = re.subn(r"(k\w*Threads = )(\d+)", r"\1planted::threads(\2)", text)
    assert found > 0
    solver.write_text(text)
    return kernels


def build_planted(folder: Path) -> Path:
    return build(folder, NATIVE / "race_check.cpp", plant(folder))


@functools.cache
def is_clean(program: Path, seed: int, case: str) -> bool:
    return run(program, seed, case, THREADS=64).returncode == 0


def caught(program: Path, number: int, way: str, seeds: tuple[int, ...] = SEEDS) -> str:
    """How it shows, in a case that is clean otherwise, that a fault is there; or nothing.

    `way`: --stop by the detector, --undetected by fibers alone.
    """
    for seed in seeds:
        done = run(program, seed, way, *CASES, MISSING_PLACE=number, THREADS=64)
        if done.returncode == 0:
            continue
        told = [line.split("|") for line in done.stdout.splitlines()]
        case = [rest[0] for kind, *rest in told if kind == "RUN"][-1]
        if is_clean(program, seed, case) or way == "--undetected":
            names = {WRONG: "wrong answer", ENDLESS: "endless", REPORTED: told[-1][0].lower()}
            return f"{names.get(done.returncode, 'crash')} in {case}"
    return ""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as workers:
        program = build_planted(Path(folder))
        numbers = range(len(faults()))
        ways = [
            workers.map(functools.partial(caught, program, way=way, seeds=seeds), numbers)
            for way, seeds in (("--stop", SEEDS), ("--undetected", SEEDS[:1]))
        ]
        missed = []
        print(f"{'missing':50} {'by the detector':30} by fibers alone")
        for fault, detector, fibers in zip(faults(), *ways, strict=True):
            print(f"{fault:50} {detector or '-':30} {fibers or '-'}", flush=True)
            missed += [fault] * (not detector)
    sys.exit(f"not caught: {missed}" if missed else 0)


if __name__ == "__main__":
    main()
