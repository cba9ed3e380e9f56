"""Programs that watch CUDA kernels for races (`native/race.h`), and what they tell, in words."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from sources import FLAGS, KERNELS, ROOT

NATIVE = ROOT / "tests/native"
COMPILER = "g++"  # tells volatile accesses from others, and its calls are race_hooks.cpp's
needs_detector = pytest.mark.skipif(
    shutil.which(COMPILER) is None or os.uname().machine != "x86_64",
    reason=f"the race detector needs {COMPILER} and x86-64",
)
INSTRUMENTED = ["-g", "-fsanitize=thread", "--param", "tsan-distinguish-volatile=1", "-Wno-tsan"]
WRONG, ENDLESS, REPORTED = 1, 3, 4  # exit codes of native/race_check.cpp
TEAMS = ("warp", "block", "grid")
# Families of problems, the quick ones first, and the outcomes that theirs may have.
FAMILIES = dict.fromkeys(("small", "near", "constant", "dented", "large", "sum", "planted"), "0")
FAMILIES |= {"dwarfed": "03", "empty": "1", "invalid": "2", "spoilt": "2", "infeasible": "1"}
FAMILIES |= dict.fromkeys(("forbidden", "spare", "ties", "uniform", "warm", "product"), "0")
WIDE = {"large"}  # of more columns than a warp has registers for
CASES = [
    f"{team}/{family}"
    for family in FAMILIES
    for team in TEAMS
    if team != "warp" or family not in WIDE
]

# Calls that reports name: not those through which all kernels read and write.
NAMED = {path.name for path in [*KERNELS.glob("*.h"), *KERNELS.glob("*.cu")]}
NAMED = (NAMED | {"race_model.cpp"}) - {"device.h", "launch.h"}
DEPTH = 5


def build(folder: Path, source: Path, kernels: Path | None = None) -> Path:
    """`source` with the detector; the kernels, or what `source` has of them, are instrumented."""
    host = (kernels or KERNELS) / "host"
    include = [f"-I{host}", f"-I{host.parents[1]}", f"-I{ROOT / 'csrc'}", f"-I{NATIVE}"]
    plain = [NATIVE / "race.cpp", NATIVE / "race_hooks.cpp", host / "fibers.cpp"]
    watched = source
    if kernels is not None:
        plain.append(source)
        watched = kernels / "solver.cu"
    objects = []
    for path in [*plain, watched]:
        objects.append(folder / f"{path.stem}.o")
        # With -O1 most functions remain, to be named in reports.
        flags = [*INSTRUMENTED, "-O1"] if path == watched else ["-O2"]
        command = [COMPILER, *FLAGS, *flags, *include, "-c", "-x", "c++"]
        command += [str(path), "-o", str(objects[-1])]
        subprocess.run(command, check=True)
    # At fixed addresses, which reports name.
    subprocess.run([COMPILER, "-no-pie", *objects, "-o", folder / "check"], check=True)
    return folder / "check"


def run(program: Path, *arguments: object, **environment: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {name: str(value) for name, value in environment.items()},
    )


def short(name: str) -> str:
    """A function's name without what it is a member of and what it is called with."""
    name = name.replace("(anonymous namespace)::", "").replace("operator()", "lambda")
    while (plainer := re.sub(r"<[^<>]*>|\{[^{}]*\}|\([^()]*\)", "", name)) != name:
        name = plainer
    return re.split(r"::| ", name.removesuffix(" const").strip())[-1] or "lambda"


def lines_of(program: Path, addresses: list[str]) -> dict[str, list[str]]:
    """The lines of code where calls return to, inlined calls and all, the innermost first."""
    before = [hex(int(address, 16) - 1) for address in addresses]
    command = ["addr2line", "-a", "-i", "-f", "-C", "-e", str(program), *before]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    blocks = re.split(r"^0x[0-9a-f]+\n", told, flags=re.MULTILINE)[1:]
    found = {}
    for address, block in zip(addresses, blocks, strict=True):
        lines = block.splitlines()
        spots = [re.sub(r" \(.*", "", spot).rsplit("/", 1)[-1] for spot in lines[1::2]]
        names = [short(name) for name in lines[::2]]
        found[address] = [
            f"{spot} {name}"
            for spot, name in zip(spots, names, strict=True)
            if spot.split(":")[0] in NAMED
        ]
    return found


def reports(program: Path, output: str) -> list[str]:
    """What race::report() printed, a sentence each; those of the same lines of code are one."""
    kinds = {"RACE": 4, "UNWRITTEN": 2, "INPUT": 2, "DIVERGED": 0}  # fields before addresses
    fields = [line.split("|") for line in output.splitlines()]
    told = [(kind, int(rest[0]), rest[1:]) for kind, *rest in fields if kind in kinds]
    addresses = {a for kind, _, rest in told for a in " ".join(rest[kinds[kind] :]).split()}
    lines = lines_of(program, sorted(addresses)) if addresses else {}
    counts: Counter[str] = Counter()
    for kind, count, rest in told:
        places = [
            " < ".join([line for a in stack.split() for line in lines[a]][:DEPTH])
            for stack in rest[kinds[kind] :]
        ]
        if kind == "RACE":
            first, second = sorted(f"{rest[k]} at {places[k]}" for k in (0, 1))
            sentence = f"{first}\n  races with {second}\n  in {rest[2]}"
        elif kind == "UNWRITTEN":
            sentence = f"{rest[0]} of {rest[1]} that nobody has written at {places[0]}"
        elif kind == "INPUT":
            sentence = f"{rest[0]} to the input at {places[0]}"
        else:
            sentence = f"threads wait at {places[0]}\n  for others at {places[1]}"
        counts[sentence] += count
    return [f"{count} times: {sentence}" for sentence, count in counts.items()]
