# Both commands work from a bare checkout: they make .venv, install what they need, and are quick the next time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKERS ?= 2
# An environment variable, not an option of pip, so that it also pins what the package is built with.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: demo test check bench growth docs clean

demo: $(VENV)/.tools
	$(BIN)/paraform demo

test: check
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/reads.py
	$(BIN)/python -m benchmarks.table

growth: $(VENV)/.dev
	$(BIN)/python -m benchmarks.growth

docs: $(VENV)/.dev
	$(BIN)/python -m tests.complaints.page
	$(BIN)/python -m tests.constraints.pages
	$(BIN)/python -m benchmarks.page
	$(BIN)/python -m tests.report.picture

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.tools: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --editable '.[tools]'
	touch $@

$(VENV)/.dev: $(VENV)/.tools
	$(PIP) install --quiet --editable '.[tools,dev]'
	touch $@
