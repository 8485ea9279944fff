# make run     train one quick model per architecture, then MLflow UI on :5000 and the service on :3000
# make zoo     train every architecture on every data set it has a recipe for; goes on where it was stopped
# make test    the test suite, in a few minutes
# make slow    the rest of it: every recipe trained, every study, processes that are killed; about 20 minutes
# make soak    the tests that take minutes: a million requests, promotions under load, PostgreSQL, clean installations
# make check   lint and types, as CI does
# make bench   the measured comparisons in tests/benchmarks

PYTHON ?= python3
VENV   := .venv
READY  := $(VENV)/.installed

.PHONY: run zoo test slow soak check bench clean

run: $(READY)
	$(VENV)/bin/zoo quickstart

zoo: $(READY)
	$(VENV)/bin/zoo train-all

test: $(READY)
	$(VENV)/bin/pytest --numprocesses 2 --dist loadfile

slow: $(READY)
	$(VENV)/bin/pytest --numprocesses 2 --dist loadfile -m "slow and not soak"

soak: $(READY)
	$(VENV)/bin/pytest -m soak -s --timeout 3600

check: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

bench: $(READY)
	$(VENV)/bin/python -m tests.benchmarks.training
	$(VENV)/bin/python -m tests.benchmarks.augmentation
	$(VENV)/bin/python -m tests.benchmarks.texts
	$(VENV)/bin/python -m tests.benchmarks.serving

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[serving,tracing,training,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) .zoo .mypy_cache .ruff_cache .pytest_cache
