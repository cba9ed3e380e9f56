"""What a machine without a network needs to test and measure this tree on its GPU.

``make`` fills build/gpu-bundle: the extension for another Python, and wheels of what that machine
may lack. ``use``, run there by that Python, puts the extension into the tree, and what is really
missing into a folder of its own, which it prints for PYTHONPATH; the machine's own packages stay as
they are.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "build" / "gpu-bundle"
LIMIT = 60_000_000  # bytes: it travels with every call to such a machine
# What the tests import, what they run with, and peers that are small.
WHEELS = (
    "pytest", "pytest-xdist", "execnet", "iniconfig", "pluggy", "packaging", "pygments",
    "hypothesis", "sortedcontainers", "scipy", "torch-linear-assignment", "laprust",
)  # fmt: skip
WANTED = ("torch", "triton", *WHEELS)


def tell(line: str) -> None:
    """Standard output is for the folder that `use` prints."""
    print(line, file=sys.stderr)


def sources() -> str:
    """A digest of what the extension is made from."""
    digest = hashlib.sha256()
    paths = [ROOT / "setup.py", *sorted(p for p in (ROOT / "csrc").rglob("*") if p.is_file())]
    for path in paths:
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def run(*command: str | Path, **environment: str) -> str:
    """A program's output; it ends ours if it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | environment
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}")
    return done.stdout.strip()


def make(python: str) -> None:
    """Builds the extension for `python`, downloads wheels for it, and writes the manifest."""
    venv = ROOT / "build" / "gpu-bundle-venv"
    built_for = venv / "bin" / "python"
    if not built_for.exists():
        run(python, "-m", "venv", venv)
        run(built_for, "-m", "pip", "install", "--quiet", "setuptools", "pybind11", "numpy")
    tag = run(built_for, "-c", "import sys; print(sys.implementation.cache_tag)")
    digest = sources()
    command: list[str | Path] = ["setup.py", "-q", "build_ext", "--build-lib", BUNDLE]
    run(built_for, *command, "--build-temp", ROOT / "build" / f"gpu-bundle-{tag}", BMATCH_CUDA="1")
    if sources() != digest:
        shutil.rmtree(BUNDLE / "bmatch")
        raise SystemExit("sources changed while the extension was built: run it again")
    told = "from bmatch._core import cuda_facts; print(cuda_facts().compiled)"
    facts = run(built_for, "-c", f"import sys; sys.path[0] = {str(BUNDLE)!r}; {told}")

    wheels = BUNDLE / "wheels"
    asked = hashlib.sha256("\n".join((tag, *WHEELS)).encode())
    asked.update((ROOT / "constraints.txt").read_bytes())
    stamp = ROOT / "build" / "gpu-bundle-wheels"
    if not (wheels.exists() and stamp.exists() and stamp.read_text() == asked.hexdigest()):
        shutil.rmtree(wheels, ignore_errors=True)
        pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        run(built_for, *pip, "--dest", wheels, *WHEELS)
        stamp.write_text(asked.hexdigest())

    manifest = {
        "commit": run("git", "describe", "--always", "--dirty"),
        "python": tag,
        "extension": facts,
        "sources": digest,
        "wheels": sorted(path.name for path in wheels.glob("*.whl")),
    }
    (BUNDLE / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    size = sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file())
    tell(f"{BUNDLE.relative_to(ROOT)}: {size / 1e6:.1f} MB, {tag}, extension for {facts}")
    if size > LIMIT:
        raise SystemExit(f"the bundle takes {size} bytes, and {LIMIT} may travel")


def put_extension(manifest: dict[str, str]) -> None:
    """The bundle's extension into the tree, if it is of this tree and for this Python."""
    name = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    carried, target = BUNDLE / "bmatch" / name, ROOT / "bmatch" / name
    if not carried.exists():
        tell(f"the bundle's extension is for {manifest['python']}, not for this Python")
    elif manifest["sources"] != sources():
        tell("the bundle's extension was made from other sources: run `make gpu-bundle` again")
    elif not target.exists() or target.read_bytes() != carried.read_bytes():
        shutil.copy2(carried, target)
        tell(f"{target.relative_to(ROOT)}: from the bundle, {manifest['extension']}")


def is_installed(name: str, path: list[str]) -> bool:
    """Whether a package is there, whoever put it there."""
    return next(iter(importlib.metadata.distributions(name=name, path=path)), None) is not None


def use() -> None:
    """Prints a folder for PYTHONPATH, if the bundle holds what this Python lacks."""
    manifest_file = BUNDLE / "manifest.json"
    if manifest_file.exists():
        manifest = json.loads(manifest_file.read_text())
        put_extension(manifest)
        tag = sys.implementation.cache_tag
        site = ROOT / "build" / f"gpu-site-{tag}"
        if manifest["python"] == tag:
            add_wheels(site)
        if site.exists():
            sys.path.insert(0, str(site))
            print(site)
    missing = [name for name in WANTED if not is_installed(name, sys.path)]
    if missing:
        tell(f"not installed, and what needs them is left out: {', '.join(missing)}")


def add_wheels(site: Path) -> None:
    """What this Python lacks, from the bundle's wheels into a folder that is made anew."""
    own = [folder for folder in sys.path if Path(folder).resolve() != site]
    lacking = [
        wheel
        for wheel in sorted((BUNDLE / "wheels").glob("*.whl"))
        if not is_installed(wheel.name.split("-")[0], own)
    ]
    stamp = site / "wheels.txt"
    names = "\n".join(wheel.name for wheel in lacking)
    if stamp.exists() and stamp.read_text() == names:
        return
    shutil.rmtree(site, ignore_errors=True)
    if lacking:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        run(*pip, "--no-compile", "--no-cache-dir", "--target", site, *lacking, PIP_CONSTRAINT="")
        stamp.write_text(names)
        tell(f"{site.relative_to(ROOT)}: {', '.join(wheel.name for wheel in lacking)}")


def commit() -> None:
    """Prints the commit that the bundle was made at, if there is one."""
    manifest = BUNDLE / "manifest.json"
    if manifest.exists():
        print(json.loads(manifest.read_text())["commit"])


def main() -> None:
    """``make`` here, ``use`` and ``commit`` there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bundle", description=__doc__)
    parser.add_argument("what", choices=("make", "use", "commit"))
    parser.add_argument("--python", default="python3.12", help="the other machine's, for `make`")
    options = parser.parse_args()
    if options.what == "make":
        make(options.python)
    elif options.what == "use":
        use()
    else:
        commit()


if __name__ == "__main__":
    main()
