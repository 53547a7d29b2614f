# make demo   from nothing to molecular dynamics with a trained potential (results in demo_output/)
# make test   the tests, doctests included
# make test-fast  those of them that take no more than about a quarter of a second: about two minutes on two cores
# make check  format, lint, types, layers and the markup of docstrings
# make dev    only sets up the environment of the two above
# make cluster  adds the optional torch-cluster (compiled from source: about ten minutes)
# make clean  removes what the above made
#
# The first command makes a virtual environment in .venv; later ones find it. Variables:
#   make test PYTEST_ARGS='-m "not slow" tests/data'
#   make demo PYTHON=python3.12 VENV=/tmp/other
#   make demo PIP_CONSTRAINT=        newest torch instead of the release in .ci/constraints.txt
# pip reads its own variables as always: PIP_CONSTRAINT, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, ...

PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= demo_output
PYTEST_ARGS ?=
PIP_CONSTRAINT ?= .ci/constraints.txt
export PIP_CONSTRAINT

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := ik_e3nn calculators tests examples
# What an installation depends on; the code itself is installed in editable form.
INSTALL_INPUTS := pyproject.toml ik_e3nn/__init__.py .ci/constraints.txt | $(BIN)/python

.PHONY: help demo test test-fast check dev format cluster clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^# /s/^# //p;/^$$/q' Makefile

demo: $(VENV)/.installed
	$(BIN)/python examples/01_molecule_to_dynamics.py --output $(OUTPUT)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not long" $(PYTEST_ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/markup.py $(wildcard $(SOURCES))

dev: $(VENV)/.installed-dev

format: $(VENV)/.installed-dev
	$(BIN)/ruff format $(wildcard $(SOURCES))
	$(BIN)/ruff check --fix $(wildcard $(SOURCES))

cluster: $(VENV)/.installed-cluster

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ik_e3nn needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(INSTALL_INPUTS)
	$(PIP) install -e '.[train,chem,xtb]'
	@touch $@

$(VENV)/.installed-dev: $(INSTALL_INPUTS)
	$(PIP) install -e '.[dev,xtb]'
	@touch $@ $(VENV)/.installed

# Compiled against the torch of the environment, hence without build isolation.
$(VENV)/.installed-cluster: $(VENV)/.installed
	$(PIP) install setuptools wheel hatchling
	$(PIP) install --no-build-isolation -e '.[cluster]'
	@touch $@

clean:
	rm -rf $(VENV) $(OUTPUT) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +
