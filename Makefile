# `make demo` and `make test` each do all set-up by themselves, on a machine with Python 3.11 and make.
#
#   TORCH_INDEX   index to take torch and torchvision from, for example PyTorch's CPU-only wheels:
#                 make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
#   VENV          the virtual environment (default .venv)
#   WORKERS       processes that run the tests, each on one core and with up to 4 GB (default 2)
#   PYTEST_ARGS   more arguments for pytest, for example PYTEST_ARGS=--durations=25

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
TORCH_INDEX ?=
WORKERS ?= 2
PYTEST_ARGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.geoforest-installed

.PHONY: demo test fast lint format docs docs-figures dist dist-check clean

demo: $(STAMP)
	$(BIN)/geoforest demo --out demo-out

# One thread a process: small networks gain nothing by a second one, and the workers share cores.
# Groups and their order are those of tests/conftest.py.
test fast: export OMP_NUM_THREADS ?= 1
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(PYTEST_ARGS)

test: $(STAMP)
	$(PYTEST)

fast: $(STAMP)
	$(PYTEST) -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The wheel is built from the sdist, so that what it needs is in both.
dist: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

# As its users get it: the wheel alone, in an empty environment, far from this folder.
dist-check: dist
	PYTHON=$(BIN)/python TORCH_INDEX=$(TORCH_INDEX) scripts/check_wheel dist/*.whl

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

docs-figures: $(STAMP)
	$(BIN)/python -m scripts.draw_docs

clean:
	rm -rf $(VENV) demo-out site build dist *.egg-info

# torch and torchvision first and together: their builds have to match.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "geoforest needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@
