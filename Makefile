# Everything a clone needs: `make help` lists it. Set PYTHON= to choose the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
DONE := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install train evaluate sweep study-sweep study-report report-full study-leakage study-context study-tokens test test-fast lint format tensorboard bench wheel check clean

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

# A study: its runs under OUT, then what they leave in its folder under experiments/. QUICK=1: toy sizes, OUT only.
OUT ?= outputs
TRAIN := $(BIN)/python -m genoseq.train
STUDY = $(BIN)/python -m genoseq.study name=$(1) dir=$(OUT)/$(if $(QUICK),quick,study)-$(1) $(if $(QUICK),,out=experiments/$(1))
TOY := model.hidden_size=8 data.batch_size=4 trainer=cpu logger=none
START := data.genome=tests/data/files/hpylori_start.txt

study-sweep: $(DONE) ## experiments/sweep: 36 runs, then two more seeds of the best five (half an hour on 2 cores)
ifdef QUICK
	$(TRAIN) -m experiment=sweep $(TOY) $(START) tokens=2000 data.seq_len=10,50 model.embed_dim=4 sweep.dir=$(OUT)/quick-sweep
	$(TRAIN) sweep=replicate sweep.dir=$(OUT)/quick-sweep hydra.sweeper.best=1 'hydra.sweeper.seeds=[1]'
else
	$(TRAIN) experiment=sweep sweep=report sweep.dir=$(OUT)/study-sweep $(ARGS)
	$(TRAIN) sweep=replicate sweep.dir=$(OUT)/study-sweep $(ARGS)
	cp $(OUT)/study-sweep/sweep.csv experiments/sweep/results.csv
	cp $(OUT)/study-sweep/sweep.png experiments/sweep/sweep.png
endif

study-report: $(DONE) ## experiments/report: the published models on both splits, small scale (a quarter of an hour)
ifdef QUICK
	$(TRAIN) -m experiment=report1,report3 data/split=random_windows,contiguous data.genome=hpylori data.bases=8000 $(TOY) \
		data.eval_windows=16 trainer.max_steps=20 trainer.log_every_n_steps=5 sweep.dir=$(OUT)/quick-report
else
	$(TRAIN) -m experiment=report1,report2,report3 data/split=random_windows,contiguous data.genome=klebsiella data.bases=50000 \
		sweep.dir=$(OUT)/study-report $(ARGS)
endif
	$(call STUDY,report)

report-full: $(DONE) ## the same at the published scale, for a GPU; rewrites experiments/report
	$(TRAIN) -m experiment=model1,model2,model3 data/split=random_windows,contiguous data.genome=klebsiella \
		data.carry_state=false sweep.dir=$(OUT)/study-report-full $(ARGS)
	$(BIN)/python -m genoseq.study name=report dir=$(OUT)/study-report-full out=experiments/report

study-leakage: $(DONE) ## experiments/leakage: what memory alone scores on each split (ten minutes)
ifdef QUICK
	$(TRAIN) -m experiment=leakage data.split.window_stride=1,50 $(TOY) $(START) data.bases=4000 data.seq_len=50 \
		trainer.max_steps=10 sweep.dir=$(OUT)/quick-leakage/random_windows
	$(TRAIN) -m experiment=leakage data/split=contiguous $(TOY) $(START) data.bases=4000 data.seq_len=50 \
		trainer.max_steps=10 sweep.dir=$(OUT)/quick-leakage/contiguous
else
	$(TRAIN) -m experiment=leakage,leakage_tables data.split.window_stride=1,10,50,100,200 \
		sweep.dir=$(OUT)/study-leakage/random_windows $(ARGS)
	$(TRAIN) -m experiment=leakage,leakage_tables data/split=contiguous sweep.dir=$(OUT)/study-leakage/contiguous $(ARGS)
endif
	$(call STUDY,leakage)

study-context: $(DONE) ## experiments/context: does longer context help? (ten minutes)
ifdef QUICK
	$(TRAIN) -m experiment=context data.seq_len=100,10 tokens=20000 tokens_per_step=1000 model.hidden_size=8 trainer=cpu $(START) \
		sweep.dir=$(OUT)/quick-context
else
	$(TRAIN) -m experiment=context data.seq_len=5000,1000,500,200,100,50,10 seed=0,1 sweep.dir=$(OUT)/study-context $(ARGS)
endif
	$(call STUDY,context)

study-tokens: $(DONE) ## experiments/tokens: characters against k-mers (ten minutes)
ifdef QUICK
	$(TRAIN) -m experiment=tokens data.k=3 data=kmer,kmer_disjoint tokens=20000 $(TOY) $(START) sweep.dir=$(OUT)/quick-tokens
	$(TRAIN) -m experiment=tokens 'data=choice(char)' seed=0,1 tokens=20000 $(TOY) $(START) sweep.dir=$(OUT)/quick-tokens
else
	$(TRAIN) -m experiment=tokens data.k=6,5,4,3,2 data=kmer,kmer_disjoint sweep.dir=$(OUT)/study-tokens $(ARGS)
	$(TRAIN) -m experiment=tokens 'data=choice(char)' seed=0,1 sweep.dir=$(OUT)/study-tokens $(ARGS)
endif
	$(call STUDY,tokens)

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
