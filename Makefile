# make run     train one quick model per architecture, then MLflow UI on :5000 and the service on :3000;
#              make run PORT=3001 UI_PORT=5001 chooses other ports for the service and the UI
# make zoo     train every architecture on every data set it has a recipe for; goes on where it was stopped
# make test    the test suite, in a few minutes
# make slow    the rest of it: every recipe trained, every study, processes that are killed; 10 to 20 minutes
# make soak    the tests that take minutes: a million requests, promotions under load, PostgreSQL, the images
# make check   lint and types, as CI does
# make bench   the measured comparisons in tests/benchmarks
# make lock    renew docker/requirements-*.txt, the versions and hashes that the images are built from

PYTHON  ?= python3
PORT    := 3000
UI_PORT := 5000
VENV    := .venv
READY   := $(VENV)/.installed
DEV     := $(VENV)/.installed-dev
PIP     := $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
LOCK    := $(VENV)/bin/uv pip compile --quiet --upgrade --generate-hashes --no-annotate \
	--python-version 3.11 --python-platform x86_64-manylinux_2_36 \
	--constraint constraints.txt --custom-compile-command 'make lock' --output-file

.PHONY: run zoo test slow soak check bench lock clean

run: $(READY)
	$(VENV)/bin/zoo quickstart --port $(PORT) --ui-port $(UI_PORT)

zoo: $(READY)
	$(VENV)/bin/zoo train-all

test: $(DEV)
	$(VENV)/bin/pytest --numprocesses 2 --dist loadfile

slow: $(DEV)
	$(VENV)/bin/pytest --numprocesses 2 --dist loadfile -m "slow and not soak"

soak: $(DEV)
	$(VENV)/bin/pytest -m soak -s --timeout 3600

check: $(DEV)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

bench: $(DEV)
	$(VENV)/bin/python -m tests.benchmarks.training
	$(VENV)/bin/python -m tests.benchmarks.augmentation
	$(VENV)/bin/python -m tests.benchmarks.texts
	$(VENV)/bin/python -m tests.benchmarks.serving

# Packages of torch for CUDA, each with its hashes.
OF_CUDA := /^(torch|torchvision|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==/,/[^\\]$$/

lock: $(DEV)
	echo 'setuptools>=77' | $(LOCK) docker/requirements-build.txt -
	$(LOCK) docker/requirements-serving.txt --only-binary :all: --extra serving --extra tracing \
		--no-emit-package onnxruntime pyproject.toml
	echo onnxruntime | $(LOCK) docker/requirements-serving-cpu.txt --only-binary :all: --no-deps -
	echo 'onnxruntime-gpu[cuda,cudnn]' | $(LOCK) docker/requirements-serving-cuda.txt --only-binary :all: \
		--constraint docker/requirements-serving.txt -
	$(LOCK) docker/requirements-training.txt --extra training pyproject.toml
	sed -n -E '1,2p; $(OF_CUDA)p' docker/requirements-training.txt > docker/requirements-training-cuda.txt
	sed -i -E '$(OF_CUDA)d' docker/requirements-training.txt
	echo '--index-url https://download.pytorch.org/whl/cpu' > docker/requirements-training-cpu.txt
	sed -n -E 's/^(torch|torchvision)(==[^ ]+).*/\1\2+cpu/p' docker/requirements-training-cuda.txt \
		>> docker/requirements-training-cpu.txt
	printf 'boto3\nmlflow\npsycopg[binary]\n' | $(LOCK) docker/requirements-mlflow.txt --only-binary :all: -

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) '.[serving,training]'
	touch $(READY)

$(DEV): $(READY)
	$(PIP) '.[serving,tracing,training,dev]'
	touch $(DEV)

clean:
	rm -rf $(VENV) .zoo .mypy_cache .ruff_cache .pytest_cache
