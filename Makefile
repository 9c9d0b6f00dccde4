# What each target does: make help. Nothing has to be installed before but python3 (3.10 or newer) with venv.

PYTHON ?= python3
# Handed to pip as it is: another version, or `TORCH='torch --index-url ...'` for another build.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEER_VENV := .venv-peer
PEER_PYTHON ?= $(PEER_VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test lint types zoo zoo-check bench bench-bugs peer-venv clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
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

zoo: $(INSTALLED) ## infer the pytorch pack again from recipes/
	$(BIN)/python -m traincheck.zoo_build pytorch

zoo-check: $(INSTALLED) ## infer the pytorch pack again and compare it with the one in the tree
	$(BIN)/python -m traincheck.zoo_build pytorch --check

bench: $(INSTALLED) peer-venv ## costs, side by side with the peer; writes tests/benchmarks/RESULTS.md
	PEER_PYTHON="$(PEER_PYTHON)" $(BIN)/python tests/benchmarks/collect_cost.py --write
	PEER_PYTHON="$(PEER_PYTHON)" $(BIN)/python tests/benchmarks/overhead_cost.py --write
	PEER_PYTHON="$(PEER_PYTHON)" $(BIN)/python tests/benchmarks/infer_cost.py --write
	$(BIN)/python tests/benchmarks/memory_cost.py --write
	$(BIN)/python tests/benchmarks/check_cost.py --write
	$(BIN)/python tests/benchmarks/startup_cost.py --write

bench-bugs: $(INSTALLED) ## real silent bugs, their fixed twins and clean programs; writes tests/bugs/RESULTS.md
	$(BIN)/python tests/bugs/bench.py --vary --write

peer-venv: $(PEER_PYTHON) ## install the peer that the benchmarks compare with

$(PEER_VENV)/bin/python:
	$(PYTHON) -m venv $(PEER_VENV)
	$(PEER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(PEER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check traincheck==0.2.0

clean: ## remove what the targets above made, but not .venv
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis $(INSTALLED)
	find . -path ./$(VENV) -prune -o -path ./$(PEER_VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
