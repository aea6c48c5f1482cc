# make quickstart   sets everything up and trains a first model, without a download of data
# make test         sets everything up and runs ruff and pytest
PYTHON ?= python3
VENV ?= .venv
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: quickstart test lint format clean

quickstart: $(VENV)/.cpu
	$(VENV)/bin/python launch.py --config configs/quickstart.py

test: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest

format: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.cpu: requirements-cpu.txt | $(VENV)/bin/python
	$(VENV)/bin/pip install -q -r requirements-cpu.txt
	touch $@

$(VENV)/.dev: requirements-cpu.txt requirements-dev.txt | $(VENV)/bin/python
	$(VENV)/bin/pip install -q -r requirements-dev.txt
	touch $@ $(VENV)/.cpu
