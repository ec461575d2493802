.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
NODE_MODULES := node_modules/.package-lock.json
FUNCTIONS := $(patsubst %/requirements.txt,%/venv/.installed,$(wildcard functions/requirements.txt))

.PHONY: help install run emulators install-functions test mutants guards ingest-1000 jobs-10000 crashes soak-jobs prove check lint types bench lock clean vendor

help: ## Show this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/.local ## Make .venv with what running needs

run: .venv/.local ## Open the product on this machine: no account, no key, no network
	@$(BIN)/brainstem serve

emulators: .venv/.google $(NODE_MODULES) $(FUNCTIONS) ## Open the product on the Firebase emulators (needs Node.js and Java)
	@$(BIN)/python -m service.cli.emulators

install-functions: $(FUNCTIONS)

test: .venv/.dev ## Run every test, on two cores; those on the Firebase emulators where there are Node.js and Java
	@if command -v npm > /dev/null && command -v java > /dev/null; then $(MAKE) -s $(NODE_MODULES) $(FUNCTIONS) || true; fi
	$(BIN)/pytest -n 2 --dist loadfile

mutants: .venv/.dev $(NODE_MODULES) ## Weaken the security rules in every way that the mutator knows: each must be noticed (about three minutes)
	BRAINSTEM_TEST_EVERY_MUTANT=1 $(BIN)/pytest tests/test_rules.py -k weakened

guards: .venv/.dev ## Take away every guard between apps and users, one by one: each must be missed (about five minutes)
	BRAINSTEM_TEST_EVERY_GUARD=1 $(BIN)/pytest tests/test_guards.py

ingest-1000: .venv/.dev ## Ingest a thousand documents past an embedding server that limits the rate (four minutes, on a machine that does nothing else)
	BRAINSTEM_TEST_1000_DOCUMENTS=1 $(BIN)/pytest -s tests/test_ingest_pipeline.py -k corpus

jobs-10000: .venv/.dev ## Post ten thousand jobs of one app beside one of another, on both queues (about six minutes)
	BRAINSTEM_TEST_EVERY_JOB=1 $(BIN)/pytest tests/test_queues.py -k thousands

crashes: .venv/.dev $(NODE_MODULES) ## Kill every kind of job at every step, on both backends (about half an hour)
	BRAINSTEM_TEST_EVERY_STEP=1 $(BIN)/pytest tests/test_crashes.py

soak-jobs: .venv/.dev ## Put ten thousand jobs through processes that are killed and stopped, and a thousand on the emulators (about half an hour)
	BRAINSTEM_TEST_10000_JOBS=1 $(BIN)/pytest -s tests/test_soak_jobs.py

prove: .venv/.local ## Attack a service of this machine's own in every way that is known, and count what succeeds
	@$(BIN)/brainstem prove-isolation

check: lint types ## Lint, types, architecture and docs
	$(BIN)/pytest -q tests/test_architecture.py tests/test_docs.py

lint: .venv/.dev ## Check style with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev ## Check types with mypy
	$(BIN)/mypy

bench: .venv/.dev ## Measure this machine: speed, beside other servers that are installed for it, and retrieval quality (about 40 minutes)
	$(BIN)/python -m bench

lock: ## Resolve the dependencies anew (needs uv)
	@for set in dev local google; do \
	  case $$set in \
	    local) extras="ingest local build";; \
	    google) extras="ingest google postgres";; \
	    dev) extras="ingest local build google postgres dev";; \
	  esac; \
	  uv pip compile pyproject.toml $$(printf -- '--extra %s ' $$extras) --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --override requirements/overrides.txt $$([ $$set = dev ] || echo --constraint requirements/dev.lock) -q -o requirements/$$set.lock || exit 1; done
	@cd functions && uv pip compile requirements.in --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url -q -o requirements.txt

vendor: $(NODE_MODULES) ## Take the page's Firebase SDK from node_modules anew, and print its checksums for web/vendor/VERSIONS.md
	@for part in app app-check auth firestore; do \
	  sed -e 's#https://www\.gstatic\.com/firebasejs/[0-9.]*/#./#' -e '/^\/\/# sourceMappingURL=/d' \
	    node_modules/firebase/firebase-$$part.js > web/vendor/firebase-$$part.js || exit 1; done
	@node -p '"firebase " + require("firebase/package.json").version'
	@cd web/vendor && sha256sum firebase-*.js

clean: ## Remove .venv and the local data
	rm -rf .venv .brainstem node_modules functions/venv

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

.venv/.google: requirements/google.lock .venv/.local
	@echo "Setting up what Firebase and Google Cloud need …"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements/google.lock
	@touch $@

$(NODE_MODULES): package-lock.json
	@command -v npm > /dev/null || { echo "The Firebase emulators need Node.js 20 or newer, with npm: https://nodejs.org" >&2; exit 1; }
	@echo "Setting up node_modules, with the Firebase emulators: some minutes …"
	@npm ci --no-audit --no-fund --loglevel=error
	@touch $@

functions/venv/.installed: functions/requirements.txt
	@echo "Setting up functions/venv …"
	@$(PYTHON) -m venv functions/venv
	@functions/venv/bin/pip install -q --disable-pip-version-check -r functions/requirements.txt
	@touch $@
