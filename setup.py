"""Builds bmatch._core; everything declarative is in pyproject.toml.

``BMATCH_CUDA=auto|0|1`` says whether the solver for CUDA devices is built: where nvcc is found
(default), never, or always. nvcc's objects are linked with a static runtime, so the module
loads on machines without a GPU, too. Objects are kept below build/ with the names of the headers
they include: what is built anew is what a change concerns. Those that know nothing of Python serve
all interpreters.
"""

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from typing import Any

from pybind11 import __version__ as pybind11_version
from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, has_flag
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(
    path for path in glob("csrc/**/*.cpp", recursive=True) if not path.startswith("csrc/cuda/")
)
KERNELS = sorted(glob("csrc/cuda/*.cu"))
HEADERS = sorted(glob("csrc/**/*.h", recursive=True))
# Binaries for A100 and H100/H200, and code from which drivers compile for what comes after.
ARCHITECTURES = {"sm_80": "compute_80", "sm_90": "compute_90", "compute_90": "compute_90"}

STAND_IN = "csrc/cuda/unavailable.cpp"
# Else where code happens to lie decides over a twentieth of what small matrices take.
ALIGNED = ("-falign-functions=64",)
# Skylake and Cascade Lake decode a jump across such a boundary anew each time: 200 x 200 up to 12%.
WITHIN_LINES = "-Wa,-mbranches-within-32B-boundaries"
# Folders of what takes longest: begun first, so that no core waits for it at the end.
LONGEST = ("/python/", "/kernels/")

JOBS = "BMATCH_BUILD_JOBS"
ParallelCompile(JOBS, default=0).install()


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


def flags_of(name: str) -> list[str]:
    return shlex.split(os.environ.get(name, ""))


def headers_of(target: Path) -> Path:
    """Where the compiler says, as make would read it, what an object is made of."""
    return target.with_suffix(".d")


def is_current(target: Path) -> bool:
    """Whether it was begun after the last change of its source, its headers and this file."""
    if not target.exists() or not headers_of(target).exists():
        return False
    names = headers_of(target).read_text().partition(":")[2].replace("\\\n", " ").split()
    own = [name for name in names if name.startswith("csrc/")]
    try:
        newest = max(os.path.getmtime(path) for path in [*own, __file__])
    except FileNotFoundError:  # a header that is no more
        return False
    return target.stat().st_mtime > newest


def keep(target: Path, compile_to: Callable[[str, list[str]], object]) -> None:
    """An object whole or not there, and older than what is edited meanwhile.

    compile_to(path, flags) makes it; the flags are those that name its headers.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, begun = target.with_suffix(f".{os.getpid()}.o"), time.time()
    headers = headers_of(partial)
    compile_to(str(partial), ["-MMD", "-MF", str(headers)])
    headers.replace(headers_of(target))
    os.utime(partial, (begun, begun))
    partial.replace(target)


def compile_one(command: list[str], source: str, target: Path) -> None:
    keep(
        target,
        lambda path, flags: subprocess.run(
            [*command, *flags, "-c", source, "-o", path], check=True
        ),
    )


def compile_kernels(command: list[str], source: str, target: Path) -> None:
    """Beside the object stays what ptxas tells of registers and spills."""

    def compile_to(path: str, flags: list[str]) -> None:
        done = subprocess.run(
            [*command, "-Xptxas=-v", *flags, "-c", source, "-o", path],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.stderr.write(done.stderr)
            done.check_returncode()
        target.with_suffix(".ptxas").write_text(done.stderr)

    keep(target, compile_to)


def folder_of(build: Path, command: list[str], *told: str) -> Path:
    """Where objects are kept: by command, the compiler's version and what else is told."""
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True)
    key = "\0".join([*command, version.stdout, *told])
    return build / f"cpp-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


class Plain:
    """Objects of C++ that knows nothing of Python: kept for other interpreters."""

    def __init__(self, compiler: str, flags: list[str], build: Path) -> None:
        # Of an interpreter's own flags, which differ, those that change what code does.
        told = [flag for name in ("CPPFLAGS", "CFLAGS", "CXXFLAGS") for flag in flags_of(name)]
        self.command = [compiler, "-DNDEBUG", "-fwrapv", "-fPIC", *told, *flags, "-Icsrc"]
        self.kept = folder_of(build, self.command)

    def compile(self, source: str, target: str, anew: bool) -> None:
        kept = self.kept / f"{source}.o"
        if anew or not is_current(kept):
            compile_one(self.command, source, kept)
        shutil.copy(kept, target)


class Kernels:
    """Objects of the .cu files, which know nothing of Python: kept for other interpreters."""

    def __init__(self, nvcc: str, build: Path) -> None:
        self.nvcc = nvcc
        self.root, self.release = toolkit(nvcc)
        kept = build / f"cuda-{self.release}"
        self.objects = {kernel: kept / f"{kernel}.o" for kernel in KERNELS}

    def compile(self, anew: bool) -> None:
        for kernel, target in self.objects.items():
            if anew or not is_current(target):
                compile_kernels(self.command(), kernel, target)

    def command(self) -> list[str]:
        compiled = f"{' '.join(ARCHITECTURES)}, CUDA {self.release}"
        command = [self.nvcc, "-std=c++17", "-O3", "-fmad=false", "--expt-relaxed-constexpr"]
        command += ["-Icsrc", f'-DBMATCH_CUDA_COMPILED="{compiled}"']
        command += ["-Werror=all-warnings", "-Xcompiler=-fPIC,-Wall,-Wextra"]
        # A thread an architecture, as many as BMATCH_BUILD_JOBS says; 0: a thread a core.
        command += [f"--threads={os.environ.get(JOBS, '0')}"]
        return command + [
            f"--generate-code=arch={arch},code={code}" for code, arch in ARCHITECTURES.items()
        ]

    def link(self, ext: Extension) -> None:
        ext.extra_objects += map(str, self.objects.values())
        for folder in ("lib64", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
            if (self.root / folder / "libcudart_static.a").exists():
                ext.extra_link_args.append(f"-L{self.root / folder}")
        ext.libraries += ["cudart_static", "rt", "pthread", "dl"]


class BuildWithKernels(build_ext):  # type: ignore[misc]
    """Compiles the .cu files beside the others, and without nvcc a stand-in for them."""

    def build_extension(self, ext: Extension) -> None:
        if platform.machine() in ("x86_64", "AMD64") and has_flag(self.compiler, WITHIN_LINES):
            ext.extra_compile_args.append(WITHIN_LINES)
        build = Path(self.get_finalized_command("build").build_base)
        self.keep_objects(ext.extra_compile_args, build)
        nvcc, kernels = find_nvcc(), None
        try:
            if nvcc is not None:
                kernels = Kernels(nvcc, build)
                ext.depends += map(str, kernels.objects.values())
        except (OSError, subprocess.CalledProcessError) as error:
            self.without_kernels(error)
        compile_cpp: Callable[..., list[str]] = self.compiler.compile

        def compile_all(sources: list[str], **options: Any) -> list[str]:
            sources = sorted(
                sources, key=lambda path: not any(folder in path for folder in LONGEST)
            )
            if kernels is None:
                return compile_cpp([*sources, STAND_IN], **options)
            with ThreadPoolExecutor(max_workers=1) as beside:
                compiled = beside.submit(kernels.compile, bool(self.force))
                objects = compile_cpp(sources, **options)
            try:
                compiled.result()
            except (OSError, subprocess.CalledProcessError) as error:
                self.without_kernels(error)
                return [*objects, *compile_cpp([STAND_IN], **options)]
            kernels.link(ext)
            return objects

        self.compiler.compile = compile_all
        super().build_extension(ext)

    def keep_objects(self, flags: list[str], build: Path) -> None:
        compile_object: Callable[..., None] = self.compiler._compile
        command = self.compiler.compiler_so_cxx
        plain = Plain(command[0], flags, build)
        # By version, not by folder: pip has pybind11 in another one each time.
        interpreter = (sys.version, sysconfig.get_config_var("SOABI") or "", pybind11_version)
        bound = folder_of(build, [*command, *flags], *interpreter)

        def compile_or_take(
            target: str, source: str, ext: str, cc: list[str], post: list[str], pp: list[str]
        ) -> None:
            if not source.startswith("csrc/python/"):
                plain.compile(source, target, bool(self.force))
                return
            kept = bound / f"{source}.o"
            if self.force or not is_current(kept):
                keep(
                    kept, lambda path, own: compile_object(path, source, ext, cc, [*post, *own], pp)
                )
            shutil.copy(kept, target)

        self.compiler._compile = compile_or_take

    def without_kernels(self, error: Exception) -> None:
        if os.environ.get("BMATCH_CUDA") == "1":
            raise error
        warnings.warn(f"building without CUDA, since nvcc failed: {error}", stacklevel=2)


setup(
    cmdclass={"build_ext": BuildWithKernels},
    ext_modules=[
        Pybind11Extension(
            "bmatch._core",
            SOURCES,
            depends=[__file__, *HEADERS, *KERNELS],  # else setuptools leaves a stale library behind
            include_dirs=["csrc"],
            cxx_std=17,
            extra_compile_args=["-O3", "-ffp-contract=off", *ALIGNED, "-Wall", "-Wextra"],
        )
    ],
)
