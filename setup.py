"""Builds bmatch._core; everything declarative is in pyproject.toml.

``BMATCH_CUDA=auto|0|1`` says whether the solver for CUDA devices is built: where nvcc is found
(default), never, or always. nvcc's objects are linked with a static runtime, so the module
loads on machines without a GPU, too.
"""

import os
import re
import shutil
import subprocess
import time
import warnings
from glob import glob
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(
    path for path in glob("csrc/**/*.cpp", recursive=True) if not path.startswith("csrc/cuda/")
)
KERNELS = sorted(glob("csrc/cuda/*.cu"))
HEADERS = sorted(glob("csrc/**/*.h", recursive=True))
# Binaries for A100 and H100/H200, and code from which drivers compile for what comes after.
ARCHITECTURES = {"sm_80": "compute_80", "sm_90": "compute_90", "compute_90": "compute_90"}

ParallelCompile("BMATCH_BUILD_JOBS", default=0).install()


def find_nvcc() -> str | None:
    """nvcc, or None where the solver for CUDA devices is not to be built."""
    wanted = os.environ.get("BMATCH_CUDA", "auto")
    if wanted not in ("auto", "0", "1"):
        raise SystemExit(f"BMATCH_CUDA must be auto, 0 or 1, got {wanted!r}")
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")
    if wanted == "1" and nvcc is None:
        raise SystemExit("BMATCH_CUDA=1, but there is no nvcc on PATH nor in CUDA_HOME/bin")
    return None if wanted == "0" else nvcc


def toolkit(nvcc: str) -> tuple[Path, str]:
    """Root and version of the toolkit; nvcc itself may be a wrapper."""
    plan = subprocess.run(
        [nvcc, "--dryrun", "-c", "none.cu"], capture_output=True, text=True, check=False
    )
    root = re.search(r"^#\$ TOP=(.+)$", plan.stdout + plan.stderr, re.MULTILINE)
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True)
    release = re.search(r"release ([\d.]+)", version.stdout)
    if root is None or release is None:
        raise OSError(f"{nvcc} does not say which toolkit it belongs to")
    return Path(root[1].strip()), release[1]


class BuildWithKernels(build_ext):  # type: ignore[misc]
    """Compiles the .cu files first, and without nvcc a stand-in for them."""

    def build_extension(self, ext: Extension) -> None:
        nvcc = find_nvcc()
        try:
            if nvcc is None:
                raise FileNotFoundError("no nvcc")
            self.add_kernels(ext, nvcc)
        except (OSError, subprocess.CalledProcessError) as error:
            if os.environ.get("BMATCH_CUDA") == "1":
                raise
            if nvcc is not None:
                warnings.warn(f"building without CUDA, since nvcc failed: {error}", stacklevel=1)
            ext.sources.append("csrc/cuda/unavailable.cpp")
        super().build_extension(ext)

    def add_kernels(self, ext: Extension, nvcc: str) -> None:
        root, release = toolkit(nvcc)
        compiled = f"{' '.join(ARCHITECTURES)}, CUDA {release}"
        newest = max(os.path.getmtime(path) for path in [*KERNELS, *HEADERS, __file__])
        # They know nothing of Python, and take minutes: kept for builds of other interpreters.
        kept = Path(self.get_finalized_command("build").build_base) / f"cuda-{release}"
        for kernel in KERNELS:
            target = kept / f"{kernel}.o"
            target.parent.mkdir(parents=True, exist_ok=True)
            ext.extra_objects.append(str(target))
            ext.depends.append(str(target))
            if not self.force and target.exists() and target.stat().st_mtime > newest:
                continue
            command = [nvcc, "-std=c++17", "-O3", "-fmad=false", "--expt-relaxed-constexpr"]
            command += ["--threads=0", "-Icsrc", f'-DBMATCH_CUDA_COMPILED="{compiled}"']
            command += ["-Werror=all-warnings", "-Xcompiler=-fPIC,-Wall,-Wextra"]
            command += [
                f"--generate-code=arch={arch},code={code}" for code, arch in ARCHITECTURES.items()
            ]
            partial, begun = target.with_suffix(f".{os.getpid()}.o"), time.time()
            subprocess.run([*command, "-c", kernel, "-o", str(partial)], check=True)
            os.utime(partial, (begun, begun))  # older than what is edited meanwhile
            partial.replace(target)
        for folder in ("lib64", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
            if (root / folder / "libcudart_static.a").exists():
                ext.extra_link_args.append(f"-L{root / folder}")
        ext.libraries += ["cudart_static", "rt", "pthread", "dl"]


setup(
    cmdclass={"build_ext": BuildWithKernels},
    ext_modules=[
        Pybind11Extension(
            "bmatch._core",
            SOURCES,
            depends=[*HEADERS, *KERNELS],  # without them setuptools leaves a stale library behind
            include_dirs=["csrc"],
            cxx_std=17,
            extra_compile_args=["-O3", "-ffp-contract=off", "-Wall", "-Wextra"],
        )
    ],
)
