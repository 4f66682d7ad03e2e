# Every target sets up what it needs: python3 (3.10 to 3.13), git and make are enough.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Bytecode that is not kept costs seconds at every import of these libraries.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH
export AIRFLOW_PORT MLFLOW_PORT DEMO_HOME

.PHONY: help setup demo up down test test-services lint format bench bench-parse bench-ledger bench-gates bench-drift-alarms bench-drift bench-rollouts bench-serving bench-scoring drill-serving demo-serving soak reference lock build clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20
	@echo
	@echo "Variables: PYTHON=python3  AIRFLOW_PORT=8080  MLFLOW_PORT=5000  DEMO_HOME=.demo"

setup: $(READY) ## Make .venv from the locked requirements

$(READY): requirements/bootstrap.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) scripts/check_python.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked requirements into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo-serving: $(READY) ## Serve the flights model to generated traffic: one version is promoted, a bad one rolled back
	@$(BIN)/python scripts/demo_serving.py $(DEMO_SERVING_ARGS)

demo: $(READY) ## Run one model's whole life on real flights, unattended
	@$(BIN)/python scripts/demo.py

up: $(READY) ## Start Airflow and MLflow with the demo's data and leave them running
	@$(BIN)/python scripts/up.py

down: $(READY) ## End what `make up` started
	@$(BIN)/python scripts/down.py

test: $(READY) ## Run all tests that need no root
	@$(BIN)/python scripts/run_tests.py $(PYTEST_ARGS)

test-services: $(READY) ## Run the tests that need PostgreSQL, Chromium and HAProxy from Debian
	@$(BIN)/python -m pytest -m services $(PYTEST_ARGS)

lint: $(READY) ## Check style, types, rings and the pipelines
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/ml-lifecycle lint dags/*.yaml

format: $(READY) ## Format the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

bench: $(READY) ## Measure the lifecycle beside its peers, and what the ledger costs a task
	@$(BIN)/python scripts/bench_lifecycle.py
	@$(BIN)/python scripts/bench_ledger.py

soak: $(READY) ## Live through hundreds of releases, questions, races and kills
	@$(BIN)/python scripts/soak.py $(SOAK_ARGS)

bench-parse: $(READY) ## Measure what parsing a DAG file costs
	@$(BIN)/python scripts/bench_parse.py

bench-ledger: $(READY) ## Measure what the ledger costs a task
	@$(BIN)/python scripts/bench_ledger.py

bench-gates: $(READY) ## Measure how often the gate is right, and what a million rows cost
	@$(BIN)/python scripts/bench_gates.py $(GATES_ARGS)

bench-drift-alarms: $(READY) ## Simulate how often drift is cried falsely, and how soon it is found
	@$(BIN)/python scripts/simulate_drift.py $(DRIFT_ALARMS_ARGS)

bench-drift: $(READY) ## Measure what looking for drift costs beside Evidently's preset
	@$(BIN)/python scripts/bench_drift.py $(DRIFT_ARGS)

bench-rollouts: $(READY) ## Simulate how often a rollout ends rightly, and after how many requests
	@$(BIN)/python scripts/simulate_rollouts.py $(ROLLOUTS_ARGS)

bench-serving: $(READY) ## Measure what answering a request costs beside MLflow's server
	@$(BIN)/python scripts/bench_serving.py $(SERVING_ARGS)

bench-scoring: $(READY) ## Measure what scoring five million rows costs beside a bare loop, and kill it on the way
	@$(BIN)/python scripts/bench_scoring.py $(SCORING_ARGS)

drill-serving: $(READY) ## Shift, reload, kill and roll back under load, and count what users notice
	@$(BIN)/python scripts/serving_drills.py $(DRILL_ARGS)

reference: $(READY) ## Generate docs/reference from the code
	@$(BIN)/ml-lifecycle schema --markdown > docs/reference/pipeline.md

lock: $(READY) ## Resolve the requirements again, for Python 3.10 to 3.13
	@scripts/lock.sh $(BIN)/uv

build: $(READY) ## Build the wheel and the source distribution
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation

clean: down ## Remove everything that the other targets made
	@rm -rf $(VENV) .demo dist build  # a DEMO_HOME elsewhere is yours to remove
