# `make demo` and `make test` set everything up on a machine that has Python 3.11, make and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test check bench calibrate lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s:

# The stamp is newer than the lock and the project file exactly when what they name is installed.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "abtest needs Python 3.11 or newer; call make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP) ## a harmful canary halted, a healthy one promoted, and the report of both
	$(BIN)/abtest demo --out demo

check: $(STAMP) ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

test: check ## everything that CI runs
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

bench: $(STAMP) ## timings as ratios within one run
	$(BIN)/python -m benchmarks

calibrate: $(STAMP) ## the long simulations of error rates, in full
	ABTEST_CALIBRATE=full $(BIN)/python -m pytest -q -m calibration --durations=20

lock: $(STAMP) ## pin what pyproject.toml asks for (needs pip-tools)
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/python -m piptools compile --quiet --all-extras --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --allow-unsafe --output-file requirements.lock pyproject.toml

clean: ## remove what was made here
	rm -rf $(VENV) demo dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
