# make only builds the environment (.venv) and calls `spact` in it; the verbs themselves are in spact_lib/verbs.py.

PROFILE ?= mini
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help env reproduce test slow lint lab doctor bench

help:
	@echo "make reproduce [PROFILE=smoke|mini|paper]   data, all notebooks in order, tables beside the paper's"
	@echo "make test       lint, unit tests, smoke run of every notebook, nbval"
	@echo "make slow       the tests that train or take minutes each"
	@echo "make lab        JupyterLab on the notebooks"
	@echo "make doctor [PROFILE=...]   what is installed, what is missing, what to do"
	@echo "make bench      what is fast, against the plain way, in one run each; records, and the tables of benchmarks/README.md"
	@echo "make lint       ruff alone"
	@echo "make env        the environment alone (all of the above build it first when it is missing)"

reproduce: $(READY)
	@$(BIN)/spact reproduce --profile $(PROFILE)

# Two workers with one torch thread each: unit tests run beside the notebooks, which stay in one worker (loadfile)
# because each continues from what the one before it trained.
test: lint
	@echo "test: unit tests, smoke run of every notebook, nbval"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations 10

slow: $(READY)
	@echo "slow: properties of the built-in data that only trained networks show"
	@$(BIN)/python -m pytest -m slow tests/slow

lint: $(READY)
	@echo "lint: ruff on code and notebooks"
	@$(BIN)/ruff check .

lab: $(READY)
	@$(BIN)/jupyter lab notebooks

bench: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c pins.txt -e '.[dev,bench]' || \
	  echo "bench: the other decoders cannot be installed here; without them"
	@$(BIN)/spact bench

doctor: $(READY)
	@$(BIN)/spact doctor --profile $(PROFILE)

env: $(READY)

$(READY): pyproject.toml pins.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11 or missing; name another: make PYTHON=python3.12 ..."; exit 1; }
	@echo "env: a virtual environment in .venv, packages at the versions of pins.txt (once; some gigabytes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c pins.txt -e '.[dev]'
	@touch $@
	@echo "env: ready"
