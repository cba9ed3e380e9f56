"""Builds bmatch._core; everything declarative is in pyproject.toml."""

from glob import glob

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup

SOURCES = ["csrc/module.cpp", *sorted(glob("csrc/*/*.cpp"))]
HEADERS = sorted(glob("csrc/**/*.h", recursive=True))

ParallelCompile("BMATCH_BUILD_JOBS", default=0).install()

setup(
    ext_modules=[
        Pybind11Extension(
            "bmatch._core",
            SOURCES,
            depends=HEADERS,  # without them setuptools leaves a stale library behind
            include_dirs=["csrc"],
            cxx_std=17,
            extra_compile_args=["-O3", "-ffp-contract=off", "-Wall", "-Wextra"],
        )
    ]
)
