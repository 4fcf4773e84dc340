# Everything a newcomer needs: `make demo`, `make test`. All of it happens inside .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --disable-pip-version-check --progress-bar on -c constraints.txt

.PHONY: help demo test test-slow check format bench bench-route tables clean

# One thread of linear algebra: the matrices are small, and two threads that wait for each other on a busy
# machine take five times as long.
test test-slow bench bench-route: export OMP_NUM_THREADS = 1
test test-slow bench bench-route: export OPENBLAS_NUM_THREADS = 1

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: $(VENV)/.base  ## install the base package, pull the two default models, answer five prompts
	$(BIN)/sage demo

test: check  ## lint, types, layers, and every test but the slow ones
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.dev  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.dev  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## rewrite the code as `make check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## measure again what the README shows (docs/bench), then rewrite its tables
	$(BIN)/sage bench zoo --suite full --fresh --json docs/bench/zoo.json
	$(BIN)/python -m sage.bench.zoo.matrix docs/bench/zoo.json
	$(BIN)/sage bench answers --json docs/bench/answers.json
	$(BIN)/sage bench kernel --json docs/bench/kernel.json
	$(BIN)/sage bench ledger --json docs/bench/ledger.json
	$(BIN)/sage bench updates --json docs/bench/updates.json
	$(BIN)/sage bench select --json docs/bench/select.json
	$(BIN)/sage bench drift --json docs/bench/drift.json
	$(BIN)/sage bench collapse --json docs/bench/collapse.json
	$(MAKE) tables

ROUTE := $(BIN)/sage bench route --train

bench-route: $(VENV)/.dev  ## compare routers on recorded outcomes (takes long): make bench-route DATA=DIR
	@test -n "$(DATA)" || { echo "Name the folder of the data sets: make bench-route DATA=DIR"; exit 1; }
	$(ROUTE) $(DATA)/mmlupro-small-dev --json docs/bench/route_small.json
	$(ROUTE) $(DATA)/mmlupro-dev --json docs/bench/route_all.json
	$(ROUTE) $(DATA)/routerdc-train --json docs/bench/route_tasks.json
	$(ROUTE) $(DATA)/routerdc-train --leave-out-categories --mode full --json docs/bench/route_unseen.json
	$(ROUTE) $(DATA)/routerbench-train --json docs/bench/route_prices.json
	$(MAKE) tables

tables: $(VENV)/.dev  ## rewrite the tables in README.md and docs from docs/bench
	$(BIN)/python -m sage.bench.report docs/bench README.md docs/measured.md

clean:  ## remove the environment and the caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "SAGE needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) pip

$(VENV)/.base: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing SAGE (about 200 MB on disk) ..."
	$(BIN)/python -m pip install $(PIP_FLAGS) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "Installing the development tools ..."
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[dev]'
	@touch $@
