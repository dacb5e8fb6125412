# Everything a clone needs: `make help` lists it. Set PYTHON= to choose the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
DONE := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install train evaluate sweep report-full test test-fast test-slurm lint format tensorboard bench bench-scale bench-quick wheel check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {sub("%", "NAME", $$1); printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(DONE) ## set up .venv with genoseq and what its tests need

# torch first and by itself: a CPU build is enough here, and a GPU build already in the environment is kept
$(DONE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(DONE)

train: $(DONE) ## the main job on the bundled genome, about 2 minutes (ARGS="model=rnn3 data=kmer" to change it)
	$(BIN)/python -m genoseq.train $(ARGS)

evaluate: $(DONE) ## a checkpoint on its test part or another genome (ARGS="ckpt=... data.genome=...")
	$(BIN)/python -m genoseq.evaluate $(ARGS)

sweep: $(DONE) ## a sweep's table and picture (ARGS="dir=outputs/sweeps/...")
	$(BIN)/python -m genoseq.sweep $(ARGS)

# The runs go to outputs/, table and figures to experiments/NAME; QUICK=1: toy sizes, all into outputs/
study-%: $(DONE) ## the study experiments/NAME again: NAME is a folder there (QUICK=1: toy sizes)
	PATH="$(abspath $(BIN)):$$PATH" bash experiments/$*/run.sh $(ARGS)

report-full: $(DONE) ## experiments/report at the published scale, for a GPU; give it again to resume (LEG=30m: stop after 30 minutes)
	PATH="$(abspath $(BIN)):$$PATH" FULL=1 bash experiments/report/run.sh $(ARGS)

test: $(DONE) ## every test
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

test-fast: $(DONE) ## the tests that take no training run
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slurm: $(DONE) ## sweeps on a SLURM of one node that this starts and ends (root; apt-get install slurm-wlm munge)
	GENOSEQ_TEST_SLURM=1 $(BIN)/python -m pytest tests/sweeps/test_real_slurm.py $(ARGS)

lint: $(DONE) ## style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DONE) ## mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tensorboard: $(DONE) ## the curves of every run under outputs/
	$(BIN)/tensorboard --logdir outputs

bench: $(DONE) ## speed and memory against peers, about 15 minutes; table and pictures in benchmarks/results (ARGS="data use": parts)
	$(BIN)/python -m benchmarks $(ARGS)

bench-scale: $(DONE) ## 3.1 Gb, 200 genomes, the time to a quality: 12 minutes (needs ecoli: GENOSEQ_GENOME_DIR or the network)
	$(BIN)/python -m benchmarks scale

bench-quick: $(DONE) ## every benchmark at toy size, a minute, nothing written
	$(BIN)/python -m benchmarks --quick

wheel: $(DONE) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

check: lint test ## what has to pass before a change lands

clean: ## remove caches and builds (never outputs/)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
