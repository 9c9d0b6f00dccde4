# What each target does: make help. Nothing has to be installed before but python3 (3.10 or newer) with venv.

PYTHON ?= python3
# Handed to pip as it is: another version, or `TORCH='torch --index-url ...'` for another build.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEER_VENV := .venv-peer
# From the one that the others build on: its recipes are recorded once for all of them.
PACKS := pytorch transformers lightning accelerate deepspeed
ZOO_TRACES := build/zoo-traces
OLDEST_VENV := .venv-oldest
PEER_PYTHON ?= $(PEER_VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest lint types zoo zoo-check bench bench-bugs peer-venv clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,all]'
	@touch $@

# traincheck-check exits 1 when it found something: here that is the success.
demo: $(INSTALLED) ## train a CNN with a silent bug and see it found
	@PATH="$(CURDIR)/$(BIN):$$PATH" traincheck-check --zoo pytorch -- python recipes/demo/digits_wrong_head.py; \
	status=$$?; \
	if [ $$status -eq 1 ]; then exit 0; fi; \
	echo "make demo: expected a finding (exit status 1), got exit status $$status" >&2; exit 1

test: lint types ## lint, types and all tests
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED) ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## mypy, strict
	$(BIN)/mypy

zoo: $(INSTALLED) ## infer all packs again from recipes/
	rm -rf $(ZOO_TRACES)
	set -e; for pack in $(PACKS); do $(BIN)/python -m traincheck.zoo_build $$pack --traces $(ZOO_TRACES); done

zoo-check: $(INSTALLED) ## infer all packs again and compare them with those in the tree
	rm -rf $(ZOO_TRACES)
	set -e; for pack in $(PACKS); do $(BIN)/python -m traincheck.zoo_build $$pack --traces $(ZOO_TRACES) --check; done

bench: $(INSTALLED) peer-venv ## costs, side by side with the peer; writes tests/benchmarks/RESULTS.md
	PEER_PYTHON="$(PEER_PYTHON)" $(BIN)/python tests/benchmarks/collect_cost.py --write
	PEER_PYTHON="$(PEER_PYTHON)" $(BIN)/python tests/benchmarks/overhead_cost.py --write
	PEER_PYTHON="$(PEER_PYTHON)" $(BIN)/python tests/benchmarks/infer_cost.py --write
	$(BIN)/python tests/benchmarks/memory_cost.py --write
	$(BIN)/python tests/benchmarks/trainer_cost.py --write
	$(BIN)/python tests/benchmarks/check_cost.py --write
	$(BIN)/python tests/benchmarks/startup_cost.py --write
	$(BIN)/python tests/benchmarks/ranks_cost.py --batch 540 --write

bench-bugs: $(INSTALLED) ## real silent bugs, their fixed twins and clean programs; writes tests/bugs/RESULTS.md
	$(BIN)/python tests/bugs/bench.py --vary --write

test-oldest: ## the Transformers callback with the oldest version that is declared, in an environment of its own
	$(PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(OLDEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'transformers==4.48.*' accelerate -e . hypothesis pytest pytest-xdist
	$(OLDEST_VENV)/bin/python -m pytest tests/integrations/test_transformers.py

peer-venv: $(PEER_PYTHON) ## install the peer that the benchmarks compare with

$(PEER_VENV)/bin/python:
	$(PYTHON) -m venv $(PEER_VENV)
	$(PEER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(PEER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check traincheck==0.2.0

clean: ## remove what the targets above made, but not .venv
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis $(INSTALLED)
	find . -path ./$(VENV) -prune -o -path ./$(PEER_VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
