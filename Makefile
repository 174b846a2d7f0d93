# The commands of this repository. `make demo` and `make test` set up everything they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help demo test slow faults lint types check docs clean

help:
	@echo "make demo   the whole pipeline on a synthetic town, offline, into demo/"
	@echo "make test   the tests"
	@echo "make slow   the tests that take long, too"
	@echo "make faults damaged and hostile files, kills, full disks: many of them"
	@echo "make check  lint, types and tests, as CI does"
	@echo "make docs   the documentation, into site/"

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,openvino,cluster,remote,view,dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

demo: $(VENV)/.ready
	rm -rf demo
	$(BIN)/satmask demo --out demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

slow: $(VENV)/.ready
	$(BIN)/python -m pytest -m "slow or not slow"

faults: $(VENV)/.ready
	$(BIN)/python -m pytest tests/faults

lint: $(VENV)/.ready
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools

types: $(VENV)/.ready
	$(BIN)/mypy

check: lint types test

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --site-dir site

clean:
	rm -rf $(VENV) demo site
