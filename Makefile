# Every target makes the virtual environment it needs; the second time it is there already.
# `make help` lists them. CI runs `make test`, nothing else.

PYTHON ?= python3
PYTEST ?=
KILLS ?= 500
MINUTES ?= 30
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
DEV := $(VENV)/.dev
EXTRAS := redis,msgpack,yaml,pydantic,zstd,brotli,django,sqlalchemy,postgres,memcache,fsspec,mongodb,dynamodb,elasticsearch,rich
OTHER_PYTHONS := 3.12 3.13
FAST_TESTS := tests/unit tests/wire $(wildcard tests/conformance/test_memory*.py tests/conformance/test_sqlite*.py)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-default test-pythons check bench faults reference format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(INSTALLED) ## measure the standard library with real workers on the embedded store
	@$(PY) examples/codebase/run.py

test: test-default test-pythons ## the whole suite here, its fast tier on the other Pythons that are found

test-default: $(DEV) ## the whole suite on one Python
	@sh scripts/provide-servers $(abspath $(PY))
	$(PY) -m pytest -n 2 --dist worksteal $(PYTEST)

test-pythons: ## the fast tier (unit, wire, memory and SQLite contracts) on the other Pythons
	@for version in $(OTHER_PYTHONS); do \
		python=$$(sh scripts/find-python $$version) || { echo "Python $$version: not found here, left out"; continue; }; \
		$(MAKE) --no-print-directory .venvs/$$version/.dev OTHER=$$python VERSION=$$version || exit 1; \
		echo "Python $$version: fast tier"; \
		.venvs/$$version/bin/python -m pytest -q -n 2 --dist worksteal -p no:cacheprovider $(PYTEST) $(FAST_TESTS) || exit 1; \
	done

check: $(DEV) ## lint, format, types, import rules, unit tests: under a minute
	$(VENV)/bin/ruff check src tests examples bench scripts
	$(VENV)/bin/ruff format --check src tests examples bench scripts
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m pytest -q -n 2 --dist worksteal tests/unit

faults: $(DEV) ## kill workers on every transport, KILLS times each within MINUTES in all; prints one table
	@sh scripts/provide-servers $(abspath $(PY))
	$(PY) -m tests.faults all --kills $(KILLS) --minutes $(MINUTES) $(FAULTS)

bench: $(DEV) ## measure against Celery, dramatiq, huey and the bare loop (each in its own environment)
	@sh scripts/provide-servers $(abspath $(PY)) redis rabbit postgres
	$(PY) -m bench $(BENCH)

reference: $(DEV) ## write docs/reference anew from the code
	$(PY) scripts/cli_reference.py > docs/reference/cli.md
	$(PY) -m celeriac.app.settings > docs/reference/settings.md
	$(PY) scripts/brokers_reference.py > docs/reference/brokers.md
	$(PY) scripts/stores_reference.py > docs/reference/stores.md

format: $(DEV) ## let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix src tests examples bench scripts
	$(VENV)/bin/ruff format src tests examples bench scripts

clean: ## remove the environments, caches and build products
	rm -rf .venv .venvs .cache .celeriac dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@test -x $(PY) || { echo "making $(VENV) ($$($(PYTHON) --version))"; $(PYTHON) -m venv $(VENV); }
	@echo "installing celeriac"
	@$(PY) -m pip install -qq --editable .
	@touch $@

$(DEV): pyproject.toml
	@test -x $(PY) || { echo "making $(VENV) ($$($(PYTHON) --version))"; $(PYTHON) -m venv $(VENV); }
	@echo "installing celeriac and its development tools"
	@$(PY) -m pip install -qq --upgrade 'pip>=25.1'
	@$(PY) -m pip install -qq --editable '.[$(EXTRAS)]' --group dev
	@touch $(INSTALLED) $@

.venvs/%/.dev: pyproject.toml
	@echo "making .venvs/$(VERSION) ($$($(OTHER) --version))"
	@test -x $(@D)/bin/python || $(OTHER) -m venv $(@D)
	@$(@D)/bin/python -m pip install -qq --upgrade 'pip>=25.1'
	@$(@D)/bin/python -m pip install -qq --editable '.[$(EXTRAS)]' --group test
	@touch $@
