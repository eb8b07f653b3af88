# Everything that these commands need is set up by themselves, inside this folder.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .cache/clients
export IMPASTO_HOME ?= $(CURDIR)/.impasto
# What to measure, and on what: BENCH="steps batch --size 512 --pictures FOLDER"
BENCH ?=
# Which parts, and on what: GPU="batch-512 --device cuda:1"
GPU ?=
# What to break, and by which dice: CHAOS="storm drains --seed 7"
CHAOS ?=
# What to damage, and by which dice: FUZZ="--pictures 1000 --only jpeg --seed 7"
FUZZ ?=
# Which rows of other machines: MACHINES="one-core avx2"
MACHINES ?=
# Whether the stack is left running: IMAGES=--keep
IMAGES ?=

.PHONY: help demo up test test-deep test-machines test-images lint format bench-service bench-engine bench-pictures \
    gpu-check judge chaos fuzz-pictures docs golden gallery constraints clean

help: ## what can be made here
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

# Large pages under everything, where there is glibc: a step at 512 px takes 0.94 of the time on a CPU.
demo up bench-engine: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

demo: $(VENV)/ready ## turn the sample photograph into a painting, into out/demo
	$(BIN)/impasto render samples/skyline.jpg samples/brushstrokes.jpg \
	    --size 480 --snapshot-every 25 --output out/demo/result.png --report out/demo

up: $(VENV)/ready ## serve on http://127.0.0.1:7777 until Ctrl-C
	$(BIN)/impasto up

test: $(VENV)/ready-dev $(CLIENTS)/ready ## every test, against real servers that it starts itself
	$(BIN)/python -m pytest

test-deep: $(VENV)/ready-dev ## the life of jobs beside its model (200 runs on each database), 200 starts near a minimum
	$(BIN)/python -m pytest --hypothesis-profile=deep --timeout=1200 tests/contract/test_life.py
	IMPASTO_TEST_STARTS=200 $(BIN)/python -m pytest tests/unit/workers/engine/test_near_a_minimum.py

test-machines: $(VENV)/ready-dev ## the tests as other machines would run them (hours; a row is a part of it)
	$(BIN)/python -m tests.machines $(MACHINES)

test-images: $(VENV)/ready-dev ## build the images and start the stack, on the Docker engine of DOCKER_HOST (15 minutes)
	$(BIN)/python -m tests.images $(IMAGES)

lint: $(VENV)/ready-dev ## style, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/ready-dev ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-service: $(VENV)/ready-dev ## what the service adds to a render's own time
	$(BIN)/python -m bench.service

bench-engine: $(VENV)/ready-dev ## the engine beside its peers and its limits (half an hour)
	$(BIN)/python -W ignore -m bench.engine $(BENCH)
	$(BIN)/python -m bench.plot

gpu-check: $(VENV)/ready-dev ## what only a GPU can show: its tests and the engine's figures (eight minutes)
	$(BIN)/python -m bench.gpu $(GPU)

judge: $(VENV)/ready-dev ## hold the judge of pictures against comparisons whose answer is known (ten minutes)
	$(BIN)/python -W ignore -m bench.judge --validate $(JUDGE)

bench-pictures: $(VENV)/ready-dev ## pictures beside three peers', and what the knobs do (an hour); PICTURES=FOLDER
	$(BIN)/python -W ignore -m bench.contest --pictures $(PICTURES) $(CONTEST)
	$(BIN)/python -W ignore -m bench.knobs --pictures $(PICTURES) $(KNOBS)

chaos: $(VENV)/ready-dev ## kill, stop, cut and flush everything under hundreds of renders (eight minutes)
	$(BIN)/python -m tests.chaos $(CHAOS)

fuzz-pictures: $(VENV)/ready-dev ## 50,000 mutated pictures, 2,000 over HTTP, and bombs (five minutes)
	$(BIN)/python -m tests.fuzz $(FUZZ)

docs: $(VENV)/ready-dev ## write docs/settings.md and docs/api.md from the code
	$(BIN)/python -m tests.reference

golden: $(VENV)/ready-dev ## whether pictures are the same as by another commit; BEFORE=COMMIT (five minutes)
	$(BIN)/python -m tests.golden $(BEFORE)

gallery: $(VENV)/ready ## one sheet for each feature, into docs/gallery (ten minutes)
	$(BIN)/python -m samples.gallery $(GALLERY)

constraints: $(VENV)/ready-dev ## pin the newest versions that go together
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	    --no-annotate --custom-compile-command "make constraints" --output-file constraints.txt

clean: ## remove what was made here
	rm -rf $(VENV) .venv-* .impasto .cache out build dist *.egg-info

# uv is three times faster than pip; where it cannot be had, pip does the same.
install = @if $(BIN)/python -m pip install --quiet uv; \
	then $(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable ".[$(extras)]"; \
	else $(BIN)/python -m pip install --constraint constraints.txt --editable ".[$(extras)]"; fi

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
	    { echo "Python 3.11 to 3.14 is needed; say which with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/ready: extras := client,api,worker
$(VENV)/ready: $(VENV)/python pyproject.toml constraints.txt
	$(install)
	touch $@

$(VENV)/ready-dev: extras := dev
$(VENV)/ready-dev: $(VENV)/python pyproject.toml constraints.txt
	$(install)
	touch $@ $(VENV)/ready

# Generators of clients and linters of openapi.json: their pins are their own. Where they cannot be
# had, the tests that need them say so.
$(CLIENTS)/ready: tests/clients/package.json tests/clients/requirements.txt | $(VENV)/ready-dev
	mkdir -p $(CLIENTS)
	cp tests/clients/package.json $(CLIENTS)
	{ $(BIN)/npm --prefix $(CLIENTS) install --no-package-lock --ignore-scripts --no-audit --no-fund \
	    --loglevel=error && $(BIN)/python -m venv $(CLIENTS)/python && \
	    $(CLIENTS)/python/bin/python -m pip install --quiet --disable-pip-version-check \
	    --requirement tests/clients/requirements.txt && touch $@; } \
	    || echo "no generators of clients: their tests are skipped"
