# Everything runs in .venv, made on first use: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check install

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: .venv/installed  ## the whole K-Adapter pipeline on embedded data: a table and two plots in output/demo
	$(BIN)/python scripts/run_demo.py

test: .venv/installed  ## all fast tests
	$(BIN)/python -m pytest -q -n $(WORKERS)

test-slow: .venv/installed  ## the demo's claim and real kills
	$(BIN)/python -m pytest -q -m slow

check: .venv/installed  ## linter and type checker
	$(BIN)/ruff check .
	$(BIN)/mypy

install: .venv/installed  ## only the environment

.venv/installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@
