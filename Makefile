# Everything runs in .venv, made on first use: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
# The oldest versions have no wheels for the newest Python. TORCH=2.13.0 tests with that torch instead of the oldest.
LOWEST_PYTHON ?= python3.11
LOWEST := .venv-lowest/bin
TORCH ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-transformers test-lowest check docs install

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

demo: .venv/installed  ## the whole K-Adapter pipeline on embedded data: a table and two plots in output/demo
	$(BIN)/python scripts/run_demo.py

test: .venv/installed  ## all fast tests
	$(BIN)/python -m pytest -q -n $(WORKERS)

test-slow: .venv/installed  ## the demo's claim and real kills
	$(BIN)/python -m pytest -q -m slow -n $(WORKERS) --dist loadfile

test-transformers: .venv/installed  ## transformers' own common tests on our models: fetches their source archive, six minutes
	$(BIN)/python -m pip install --quiet parameterized==0.9.0
	$(BIN)/python tests/transformers_suite/run.py

test-lowest:  ## all fast tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	test -x $(LOWEST)/python || $(LOWEST_PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet packaging
	$(LOWEST)/python scripts/lowest_versions.py sweep parse graph retrieval dev $(TORCH:%=--override torch==%) > .venv-lowest/lowest.txt
	$(LOWEST)/python -m pip install --quiet $$(grep '^torch==' .venv-lowest/lowest.txt)
	$(LOWEST)/python -m pip install --quiet -r .venv-lowest/lowest.txt
	$(LOWEST)/python -m pip install --quiet --no-deps -e .
	$(LOWEST)/python -m pytest -q -n $(WORKERS)

check: .venv/installed  ## linter and type checker
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/installed  ## the documentation as a site, output/site; every warning is an error; needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

install: .venv/installed  ## only the environment

.venv/installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@
