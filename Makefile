# `make demo` and `make test` set everything up by themselves; all they need is Python >= 3.11 and make. With another PYTHON than
# the one before, .venv is made anew; VENV=.venv-3.13 keeps one beside it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)
DOCS := $(VENV)/.docs

.PHONY: install demo test faults portability lint docs clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "paretoray needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(if $(wildcard $(READY)),,--clear) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/paretoray search space.name=digits-tiny budget.epochs=240 retrain.members=10 --out runs/demo-$$(date +%Y%m%d-%H%M%S)

test: $(READY) lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

faults: $(READY)
	$(BIN)/python -m pytest -m "faults or long" --numprocesses 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m tests.campaign

portability: $(READY)
	$(BIN)/python tests/portability.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(DOCS)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/docs
	@echo "build/docs/index.html"

clean:
	rm -rf $(VENV) build docs/api *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
