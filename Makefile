# `make` alone lists the targets. The environment is made on first use and brought up to date when
# its pins change.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONFIG ?= configs/synthetic.py
ARGS ?=

# One test process a (logical) core, up to four: each imports JAX and compiles for itself. A file's
# tests stay in one process, where they share what its fixtures trained and what JAX compiled; files
# come in the order of tests/conftest.py, not by their number of tests.
TEST_JOBS ?= logical
PYTEST := $(BIN)/python -m pytest -n $(TEST_JOBS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo train test test-slow lint format lock

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*##/\1\t/' | expand -t 12

demo: $(VENV)/.installed  ## read the example images with the default model
	$(BIN)/python -m crnn_jax.demo example/images $(ARGS)

train: $(VENV)/.installed  ## train: make train CONFIG=configs/words.py ARGS=--config.seed=1
	$(BIN)/python -m crnn_jax.main --config=$(CONFIG) $(ARGS)

test: $(VENV)/.installed-dev  ## run the tests, from three minutes on two cores
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(VENV)/.installed-dev  ## run the slow tests, from five minutes on two cores
	$(PYTEST) -m slow $(ARGS)

lint: $(VENV)/.installed-dev  ## ruff (rules and layout) and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## lay the code out as lint wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Without `-c`, or the old lock would hold every version where it was. JAX's version depends on
# Python's; the rest serves 3.11 to 3.13, if PYTHON is 3.11.
lock:  ## write constraints.txt anew from the pins in requirements.txt and requirements-dev.txt
	mkdir -p .cache/lock
	sed '/^-c/d' requirements.txt requirements-dev.txt > .cache/lock/requirements.txt
	$(PYTHON) -m venv --clear .cache/lock/venv
	.cache/lock/venv/bin/python -m pip install -q -r .cache/lock/requirements.txt
	{ echo "# Every package of requirements.txt and requirements-dev.txt and what they need: \`make lock\`."; \
	  grep ^jax requirements.txt; \
	  .cache/lock/venv/bin/python -m pip freeze --all --exclude pip --exclude jax --exclude jaxlib; \
	} > constraints.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "$(PYTHON) is not Python 3.11 to 3.13; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt constraints.txt | $(BIN)/python
	$(PIP) install -q -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) install -q -r requirements-dev.txt
	@touch $@
