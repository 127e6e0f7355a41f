# `make run` and `make test` are all a newcomer needs: both set up what they use.
VENV ?= .venv
BIN := $(VENV)/bin
export CLOUDEDGE_HOME ?= $(CURDIR)/.cloudedge

.PHONY: run test test-long lint bench bench-data bench-models bench-guarantee bench-plan bench-federation bench-fuzz bench-lab bench-dispatch bench-escalations bench-chaos tflite up deploy down clean setup
run: setup                   ## the main job on real data; again: nothing is computed twice
	@$(BIN)/cloudedge run

test: setup lint             ## linters, then every test
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder --durations=25 --cov --cov-report=term

test-long: setup             ## the tests that take long: outages, paused coordinators, a browser, machines that join
	$(BIN)/pytest --long --durations=25

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup                 ## ratios to rivals and limits; writes benchmarks/results/ and docs/benchmarks.md
	$(BIN)/python -m benchmarks.throughput

bench-data: setup            ## codecs, links, transfer, encryption, preprocessing, memory
	$(BIN)/python -m benchmarks.data

bench-models: setup          ## the two LeNets and a student: how small, at what accuracy; runtimes
	$(BIN)/python -m benchmarks.models

bench-guarantee: setup       ## how often the cascade's bound is broken, of 200 drawn calibrations and thousands made up
	$(BIN)/python -m benchmarks.guarantee

bench-plan: setup            ## plan time up to 100,000 sites, distance from the bound, the simulator
	$(BIN)/python -m benchmarks.plan

bench-lab: setup             ## a job on emulated sites: the plan against the bound and against naive ways
	$(BIN)/python -m benchmarks.lab

bench-fuzz: setup            ## thousands of malformed inputs, none of which may do harm
	$(BIN)/python -m benchmarks.fuzz

bench-federation: setup      ## training at skewed sites against training in one place
	$(BIN)/python -m benchmarks.federation

bench-dispatch: setup        ## seconds from handing over an order to its first result, by way of dispatch
	$(BIN)/python -m benchmarks.dispatch

bench-chaos: setup           ## a hundred moments at which somebody dies: rows lost, repeated, computed twice
	$(BIN)/python -m benchmarks.chaos

bench-escalations: setup     ## what an escalation costs the edge while the cloud is down
	$(BIN)/python -m benchmarks.escalations

tflite: setup                ## an environment for tflite-runtime 2.14 in .venv-tflite (needs a Python 3.11)
	@$(BIN)/uv venv --quiet --clear --python 3.11 .venv-tflite
	@$(BIN)/uv pip install --quiet --python .venv-tflite/bin/python --require-hashes -r requirements/tflite.txt
	@echo "export CLOUDEDGE_TFLITE_PYTHON=$(CURDIR)/.venv-tflite/bin/python"

up down: setup               ## keep the local store and Prefect with its UI running; stop them
	@$(BIN)/cloudedge $@

deploy: setup                ## after `make up`: the flows as deployments that the UI and schedules start
	@$(BIN)/cloudedge deploy

clean:                       ## stop what runs; remove the environment and everything that was made
	@test ! -x $(BIN)/cloudedge || $(BIN)/cloudedge down
	rm -rf $(VENV) .venv-tflite .cloudedge .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

setup: $(VENV)/.ready
$(VENV)/.ready: requirements/all.txt pyproject.toml
	@echo "setting up $(VENV) (once) ..."
	@python3 -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/all.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
