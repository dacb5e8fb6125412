# Everything a clone needs: `make help` lists it. Set PYTHON= to choose the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
DONE := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install train evaluate sweep study-sweep test test-fast lint format tensorboard bench wheel check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(DONE) ## set up .venv with genoseq and what its tests need

# torch first and by itself: a CPU build is enough here, and a GPU build already in the environment is kept
$(DONE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(DONE)

train: $(DONE) ## the main job on the bundled genome, about 3 minutes on 2 cores (ARGS="model=rnn3 data=kmer" to change it)
	$(BIN)/python -m genoseq.train $(ARGS)

evaluate: $(DONE) ## a checkpoint on its test part or another genome (ARGS="ckpt=... data.genome=...")
	$(BIN)/python -m genoseq.evaluate $(ARGS)

sweep: $(DONE) ## a sweep's table and picture (ARGS="dir=outputs/sweeps/...")
	$(BIN)/python -m genoseq.sweep $(ARGS)

# A study: its runs, then what they leave in its folder under experiments/. QUICK=1: toy sizes, outputs/ only.
TOY := model.embed_dim=4 model.hidden_size=8 data.batch_size=8 baseline=true trainer=cpu
study-sweep: $(DONE) ## experiments/sweep: 36 runs, then two more seeds of the best five (half an hour on 2 cores)
ifdef QUICK
	$(BIN)/python -m genoseq.train experiment=sweep sweep=report sweep.dir=outputs/quick-sweep $(TOY) tokens=2000 \
		data.genome=tests/data/files/hpylori_start.txt 'optimizer.lr=0.01' 'data.seq_len=10,50' 'model.embed_dim=4,8'
	$(BIN)/python -m genoseq.train sweep=again sweep.dir=outputs/quick-sweep hydra.sweeper.best=1
else
	$(BIN)/python -m genoseq.train experiment=sweep sweep=report sweep.dir=outputs/study-sweep $(ARGS)
	$(BIN)/python -m genoseq.train sweep=again sweep.dir=outputs/study-sweep $(ARGS)
	cp outputs/study-sweep/sweep.csv experiments/sweep/results.csv
	cp outputs/study-sweep/sweep.png experiments/sweep/sweep.png
endif

test: $(DONE) ## every test
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

test-fast: $(DONE) ## the tests that take no training run
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

lint: $(DONE) ## style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DONE) ## mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tensorboard: $(DONE) ## the curves of every run under outputs/
	$(BIN)/tensorboard --logdir outputs

bench: $(DONE) ## how well sweeps fill devices; peak memory a base (needs klebsiella: GENOSEQ_GENOME_DIR or the network)
	$(BIN)/python -m benchmarks.launcher
	$(BIN)/python -m benchmarks.memory

wheel: $(DONE) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

check: lint test ## what has to pass before a change lands

clean: ## remove caches and builds (never outputs/)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
