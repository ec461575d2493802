.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install run test check lint types bench lock clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/.local ## Make .venv with what running needs

run: .venv/.local ## Open the product on this machine: no account, no key, no network
	@$(BIN)/brainstem serve

test: .venv/.dev ## Run every test
	$(BIN)/pytest

check: lint types ## Lint, types, architecture and docs
	$(BIN)/pytest -q tests/test_architecture.py tests/test_docs.py

lint: .venv/.dev ## Check style with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev ## Check types with mypy
	$(BIN)/mypy

bench: .venv/.dev ## Measure speed and retrieval quality on this machine
	$(BIN)/python -m bench

lock: ## Resolve the dependencies anew (needs uv)
	@for set in local google dev; do \
	  case $$set in \
	    local) extras="ingest local build";; \
	    google) extras="ingest google postgres";; \
	    dev) extras="ingest local build google postgres dev";; \
	  esac; \
	  uv pip compile pyproject.toml $$(printf -- '--extra %s ' $$extras) --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --override requirements/overrides.txt -q -o requirements/$$set.lock || exit 1; done

clean: ## Remove .venv and the local data
	rm -rf .venv .brainstem

.venv/.local: requirements/local.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Brainstem needs Python 3.11 or newer; set PYTHON=python3.12, say." if sys.version_info < (3, 11) else 0)'
	@echo "Setting up .venv: about half a minute …"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements/local.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: requirements/dev.lock .venv/.local
	@echo "Setting up what tests and checks need …"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.lock
	@touch $@
