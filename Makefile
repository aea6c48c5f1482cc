# make quickstart   installs everything and trains a first model, without a download of data
# make test         installs everything and runs ruff, mypy and pytest: 20 to 25 minutes on two cores
# make faults       kills training and breaks its files, again and again: a quarter of an hour or more
# make parity       compares the ported architectures with torchvision and Keras, in its own environment
# make docs         writes docs/commands.md, docs/options.md and configs/base.py from their sources
PYTHON ?= python3
VENV ?= .venv
# Files of tests run beside each other, in the order of tests/conftest.py: that saves a third of the
# time on two cores.
PARALLEL ?= -n 2 --dist loadfile --no-loadscope-reorder
# Files with tests that skip without torch.
WRITTEN_FOR_TORCH = tests/pretrained/test_pretrained.py tests/pretrained/test_torch_format.py
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: quickstart test faults parity docs format clean

quickstart: $(VENV)/.cpu
	$(VENV)/bin/python launch.py --config configs/quickstart.py

test: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	@echo "About 3,900 tests: 20 to 25 minutes on two cores. It is $$(date +%H:%M)."
	$(VENV)/bin/python -m pytest $(PARALLEL)

faults: $(VENV)/.dev
	$(VENV)/bin/python -m tests.faults.campaign

parity: $(VENV)-parity/.installed
	$(VENV)-parity/bin/python -m pytest $(PARALLEL) tests/parity $(WRITTEN_FOR_TORCH)

docs: $(VENV)/.cpu
	$(VENV)/bin/python docs/write_commands.py
	$(VENV)/bin/python -m imgcls_jax options --format markdown > docs/options.md
	$(VENV)/bin/python -m imgcls_jax options --format base > configs/base.py

format: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-parity .pytest_cache .ruff_cache .mypy_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.cpu: pyproject.toml requirements-cpu.txt | $(VENV)/bin/python
	$(VENV)/bin/pip install -q -r requirements-cpu.txt
	touch $@

$(VENV)/.dev: pyproject.toml requirements-dev.txt | $(VENV)/bin/python
	$(VENV)/bin/pip install -q -r requirements-dev.txt
	touch $@ $(VENV)/.cpu

# On top of what `make test` installs, which a .pth file names. torchvision comes without what it asks
# for: with it pip would fetch another torch than the one just installed.
SITE = -c "import sysconfig; print(sysconfig.get_path('purelib'))"
$(VENV)-parity/.installed: requirements-parity.txt $(VENV)/.dev
	test -x $(VENV)-parity/bin/python || $(PYTHON) -m venv $(VENV)-parity
	$(VENV)/bin/python $(SITE) > $$($(VENV)-parity/bin/python $(SITE))/test.pth
	$(VENV)-parity/bin/pip install -q torch==2.13.0
	$(VENV)-parity/bin/pip install -q --no-deps torchvision==0.28.0
	$(VENV)-parity/bin/pip install -q -r requirements-parity.txt
	touch $@
