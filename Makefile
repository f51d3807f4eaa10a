# Everything is installed into .venv from the locks in requirements/; nothing else on the machine is touched.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PYTHONPATH := development:benchmarks
export TF_CPP_MIN_LOG_LEVEL ?= 2
# OpenBLAS' threads wait by spinning: beside other work a fit of few rows takes ten times longer.
export OPENBLAS_NUM_THREADS ?= 1
PYTEST := $(BIN)/pytest
BENCH = --data "$${EXPANSION_TEST_DATA:?set EXPANSION_TEST_DATA to the folder of test data}" --out build/bench

.PHONY: help setup demo demo-stop test test-unit test-tensorflow test-apiserver test-failover test-blindness test-cluster test-faults test-faults-full check format crds control-plane bench bench-accuracy bench-frontier bench-overlap bench-sequence bench-many bench-export bench-solve bench-unknown diagrams bench-operator bench-documents locks clean

help:  ## What can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Install everything into .venv (the other targets do it themselves)

$(READY): requirements/bootstrap.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11."; exit 1; }
	@echo "Installing into $(VENV) (about 500 MB to download, 2 GB on disk; TensorFlow is most of it) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip sync --quiet --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)  ## The whole product on this machine, no cluster, GPU or account needed (KEEP=1 leaves it up)
	@$(BIN)/python -m expansion_development.demo $(if $(KEEP),--keep)

demo-stop: $(READY)  ## Stop what `make demo KEEP=1` left up
	@$(BIN)/python -m expansion_development.demo --stop

test: $(READY)  ## All tests that need no cluster: unit, TensorFlow, and a real API server
	@$(PYTEST) tests/unit tests/consistency tests/tensorflow tests/apiserver

test-unit: $(READY)  ## Decisions, mathematics, manifests, schemas: seconds
	@$(PYTEST) tests/unit tests/consistency

test-tensorflow: $(READY)  ## Backbones, bottlenecks, export, the model server's stand-in
	@$(PYTEST) tests/tensorflow

test-apiserver: $(READY)  ## The operator against real etcd, kube-apiserver, kube-controller-manager and S3 servers
	@$(PYTEST) tests/apiserver

test-failover: $(READY)  ## Fifty leaders killed during runs: no Job twice, no gap above 20 s (about 20 minutes)
	@EXPANSION_LEADER_KILLS=50 $(PYTEST) tests/apiserver/test_leader.py -k again_and_again -s

test-blindness: $(READY)  ## An API server that answers 503 for five minutes: the operator says that it is blind, and sees again
	@EXPANSION_BLIND_SECONDS=300 $(PYTEST) tests/apiserver/test_blindness.py -k refuses_everything -s

test-cluster: $(READY)  ## The images and the chart on the cluster that KUBECONFIG names
	@$(PYTEST) tests/cluster tests/rules

test-faults: $(READY)  ## Every call of a life and of the Lease fails once, the operator is killed, events are lost: does it end the same?
	@$(BIN)/python tests/apiserver/faults_run.py

test-faults-full: $(READY)  ## The same with every fault at every call: an hour or more
	@$(BIN)/python tests/apiserver/faults_run.py --full

check: $(READY)  ## Format, lint, types, layers, generated files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m expansion_operator.crd --check

format: $(READY)  ## Let ruff format and mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

crds: $(READY)  ## Write crds/ and the chart's copy from the resource's classes
	@$(BIN)/python -m expansion_operator.crd --write

control-plane: $(READY)  ## Find or build etcd, kube-apiserver, kube-controller-manager and kubectl
	@$(BIN)/python -m expansion_development.control_plane --build

bench: bench-accuracy bench-frontier bench-overlap bench-sequence bench-many bench-export bench-solve bench-unknown bench-documents  ## All measurements, and the tables and plots in the documents

bench-accuracy: $(READY)  ## Accuracy on real images: EXPANSION_TEST_DATA names their folder (ARGS='--new-set NAME=FOLDER' for yours)
	@$(BIN)/python -m expansion_benchmarks.accuracy $(BENCH) $(ARGS)

bench-frontier: $(READY)  ## Plots: new accuracy against lost base accuracy, after bench-accuracy
	@$(BIN)/python -m expansion_benchmarks.frontier $(BENCH) $(ARGS)

bench-overlap: $(READY)  ## Does the overlap check find what a person finds, and what does Merge change
	@$(BIN)/python -m expansion_benchmarks.overlap $(BENCH) $(ARGS)

bench-sequence: $(READY)  ## Growing in five steps against growing in one
	@$(BIN)/python -m expansion_benchmarks.sequence $(BENCH) $(ARGS)

bench-many: $(READY)  ## 5 to 150 new categories, beside retrain.py's gradient descent
	@$(BIN)/python -m expansion_benchmarks.many $(BENCH) $(ARGS)

bench-export: $(READY)  ## Every row of the table again, from its exported SavedModel
	@$(BIN)/python -m expansion_benchmarks.exported $(BENCH) $(ARGS)

bench-unknown: $(READY)  ## Ways of telling unknown pictures, side by side, after bench-accuracy
	@$(BIN)/python -m expansion_benchmarks.telling $(BENCH) $(ARGS)

bench-solve: $(READY)  ## Seconds and memory for 5, 100 and 1000 new categories
	@$(BIN)/python -m expansion_benchmarks.timing $(BENCH) $(ARGS)

diagrams: $(READY)  ## Draw the diagrams of docs/how-it-works.md
	@$(BIN)/python -m expansion_benchmarks.diagrams --docs docs

bench-operator: $(READY)  ## What 1000 resources cost: memory, time, requests, listings (ARGS='--resources 100' for fewer)
	@$(BIN)/python -m expansion_benchmarks.operating --out build/bench $(ARGS)

bench-documents: $(READY)  ## Write what was measured into the documents
	@$(BIN)/python -m expansion_benchmarks.documents $(BENCH)

locks: $(READY)  ## Compile requirements/*.txt anew from pyproject.toml
	@for extra in dev operator model-sync trainer trainer-gpu; do echo "$$extra ..."; \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra $$extra \
	    $$([ $$extra = dev ] || echo -c requirements/dev.txt) -o requirements/$$extra.txt || exit 1; done

clean:  ## Remove .venv and build/
	@rm -rf $(VENV) build
