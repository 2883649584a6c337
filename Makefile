# Everything a developer and the CI run. Needs Python 3.11, make and a C compiler at most; no root.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Code that is linted, formatted and typed.
CODE := $(wildcard adapters agent aggregator bench config examples scripts stubs tests)

# Generated from config/kinds.
CRDS := deploy/kubernetes/crds.yaml

# Programs that packages bring (envoy) are found like those of the machine.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Arguments for pytest and the benchmark: make test ARGS='-k locality'
ARGS ?=

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED)  ## Create .venv with the locked dependencies and the project

$(INSTALLED): pyproject.toml requirements-dev.lock
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the PATH; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Creating $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the locked dependencies (about a minute on a fresh machine)"
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@echo "Installing the project"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@echo "Generating type stubs for the Envoy messages"
	$(BIN)/python scripts/generate_stubs.py
	@touch $@
	@echo "Installed. Try: make demo, or $(BIN)/mesh-aggregator --help"

.PHONY: demo
demo: install  ## Show the control plane and a real Envoy at work on this machine
	$(BIN)/python -m examples.demo $(ARGS)

.PHONY: servers
servers: install  ## Build the registries' servers that tests start, once on a machine
	$(BIN)/python -m tests.support.servers.build

.PHONY: test
test: servers  ## Run every test
	$(BIN)/pytest tests $(ARGS)

.PHONY: test-quick
test-quick: install  ## Run the unit, golden and integration tests
	$(BIN)/pytest tests/unit tests/golden tests/integration -m 'not slow and not e2e and not servers' $(ARGS)

.PHONY: soak
soak: servers  ## Change services of every registry for a minute each, and print how fast
	$(BIN)/pytest tests/contract -k pause --churn-seconds 60 $(ARGS)

.PHONY: check
check: install  ## Lint, formatting, types, import rules, spelling, hygiene
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/python scripts/generate_stubs.py
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	$(BIN)/python scripts/check_files.py
	@$(BIN)/mesh-aggregator crds | cmp - $(CRDS) || { echo "$(CRDS) is out of date: make crds" >&2; exit 1; }

.PHONY: crds
crds: install  ## Write the CustomResourceDefinitions of the kinds again
	$(BIN)/mesh-aggregator crds > $(CRDS)

.PHONY: format
format: install  ## Apply the formatting and the safe lint fixes
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

.PHONY: stubs
stubs: install  ## Generate the type stubs of the Envoy messages again
	$(BIN)/python scripts/generate_stubs.py --force

.PHONY: bench
bench: install  ## Measure the figures that we want to keep
	$(BIN)/python -m bench $(ARGS)

.PHONY: bench-quick
bench-quick: install  ## A short benchmark, to see that nothing got slower by a lot
	$(BIN)/python -m bench --quick $(ARGS)

.PHONY: bench-check
bench-check: install  ## See whether a change costs twice what it did (CPU, bytes, units built)
	$(BIN)/python -m bench --check $(ARGS)

.PHONY: lock
lock: install  ## Resolve the dependencies again and write the lock files
	$(COMPILE) pyproject.toml --extra all --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) requirements-build.in --output-file requirements-build.lock

# No header and no index lines: a lock file says what is installed, not where from.
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

.PHONY: changelog
changelog: install  ## Show what the next release's section of the changelog will say
	$(BIN)/towncrier build --draft

.PHONY: clean
clean:  ## Remove the environment and everything generated
	rm -rf $(VENV) typings build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
