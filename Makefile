# `make run` and `make test` are all a newcomer needs; both set up what they use.
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup test
setup: $(VENV)/.ready
$(VENV)/.ready: requirements/all.txt pyproject.toml
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv>=0.8"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/all.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

test: setup
	$(BIN)/pytest
