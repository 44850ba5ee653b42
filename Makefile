# What people type; .ci/run types the same. Nothing is needed before any target but Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV ?= uv
LOCK = $(UV) pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
  --no-emit-index-url
IMAGE ?= checkpoint-consumer:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BENCHMARK = $(BIN)/python -m benchmarks.bench $(if $(CHECKPOINTS),--checkpoints "$(CHECKPOINTS)")

.PHONY: help setup demo test check format bench bench-peers performance image wheels k8s-test lock clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

setup: $(VENV)/.runtime ## make .venv with the command in .venv/bin

demo: setup ## the whole pipeline on an embedded broker; CHECKPOINTS=FOLDER takes checkpoints from files
	$(BIN)/checkpoint-consumer demo $(CHECKPOINTS)

test: $(VENV)/.dev ## all tests; CHECKPOINTS=FOLDER adds those on real checkpoints, PYTEST="..." passes arguments
	$(if $(CHECKPOINTS),CHECKPOINTS="$(CHECKPOINTS)") $(BIN)/python -m pytest $(PYTEST)

check: $(VENV)/.dev ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev ## put the sources into the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## throughput next to a hand-written loop, on a real broker; CHECKPOINTS=FOLDER, BENCH="..."
	$(BENCHMARK) $(BENCH)

bench-peers: $(VENV)/.dev ## the same next to Kafka Streams, Rust, Quix Streams and others, built first (Java 17, Maven, Cargo)
	$(BENCHMARK) --set peers $(BENCH)

performance: $(VENV)/.plot ## docs/performance.md and its plots, from what the benchmarks saved
	$(BIN)/python -m benchmarks.plot
	$(BIN)/python -m benchmarks.publish

image: ## the container image; IMAGE=NAME:TAG, BASE=a Python image, PIP_NO_INDEX=1 with packages from wheels/
	docker build $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg PIP_INDEX_URL --build-arg PIP_NO_INDEX=$(PIP_NO_INDEX) \
	  --build-arg REVISION=$(shell git rev-parse --short HEAD 2>/dev/null || echo unknown) --tag $(IMAGE) .

wheels: $(VENV)/.runtime ## the packages of an image that is built without an index; WHEELS_PYTHON=3.11 of its base
	$(PIP) download --require-hashes --only-binary=:all: --python-version $(or $(WHEELS_PYTHON),3.11) --dest wheels \
	  -r requirements.lock -r requirements-build.lock

k8s-test: $(VENV)/.dev ## k8s/ on the cluster of the current kubeconfig: docs/kubernetes.md; PYTEST="..." passes arguments
	K8S_TESTS=server,cluster $(BIN)/python -m pytest -o faulthandler_timeout=400 $(or $(PYTEST),tests/k8s)

lock: ## lock files after pyproject.toml, versions and hashes only (needs uv); UPGRADE=--upgrade takes newer versions
	$(LOCK) pyproject.toml --output-file requirements.lock
	$(LOCK) pyproject.toml --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCK) --group build --output-file requirements-build.lock
	$(LOCK) --group plot --constraint requirements-dev.lock --output-file requirements-plot.lock

clean: ## remove what these targets made
	rm -rf $(VENV) dist build wheels .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The project itself is installed so that edits take effect without another setup.
$(VENV)/.runtime: requirements.lock requirements-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or later is needed and '$(PYTHON)' is not it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock -r requirements-build.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.plot: $(VENV)/.dev requirements-plot.lock
	$(PIP) install --require-hashes -r requirements-plot.lock
	@touch $@
