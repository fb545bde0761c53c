# The few commands of a working day. `make` alone lists them; each one sets up .venv first if it must.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types layers check constraints clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## install everything into .venv (Python 3.11 or newer)
	@echo "$(BIN)/hocket is ready"

# Old versions of pip know no dependency groups, so the pinned one comes first.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "hocket needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	            "Name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) (once, and again when pyproject.toml or constraints.txt change)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt --upgrade pip
	@$(PIP) install --constraint constraints.txt --build-constraint constraints.txt \
	  --editable '.[cli,fast,llm]' --group dev
	@touch $@

demo: $(STAMP) ## write a cited brief with a crew of seven services
	$(BIN)/hocket demo --yes

test: $(STAMP) ## run every test, four at a time: most of them wait
	$(BIN)/python -m pytest -n 4

lint: $(STAMP) ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## check types
	$(BIN)/mypy

layers: $(STAMP) ## check that imports point down only
	$(BIN)/lint-imports --no-cache

check: lint types layers test ## all of the above: what a commit must pass

constraints: ## pin the newest versions that pyproject.toml allows
	@set -eu; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(PYTHON) -m venv "$$scratch/venv"; \
	pip="$$scratch/venv/bin/python -m pip --disable-pip-version-check --quiet"; \
	$$pip install --upgrade pip; \
	$$pip install '.[cli,fast,llm,otel]' --group dev hatchling editables; \
	sed -n '/^#/p' constraints.txt >"$$scratch/pins"; \
	$$pip freeze --all --exclude hocket --exclude setuptools >>"$$scratch/pins"; \
	mv "$$scratch/pins" constraints.txt

clean: ## remove .venv and every cache
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
