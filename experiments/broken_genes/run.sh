#!/usr/bin/env bash
# The runs of this study, then its tables and figures. QUICK=1: toy sizes, into $OUT/quick-broken_genes only.
set -euo pipefail
OUT=${OUT:-outputs}

if [[ ${QUICK:-} ]]; then
    study=$OUT/quick-broken_genes
    toy=(data.bases=40000 model.hidden_size=8 data.batch_size=4 trainer=cpu trainer.max_steps=5 logger=none mixer=none)
    folds=(data/split=blocks data.split.block_size=5000 data.split.folds=2 data.split.fold=0,1)
    python -m genoseq.train -m "${toy[@]}" "${folds[@]}" hydra/launcher=basic sweep.dir="$study/folds" "$@"
    python -m genoseq.train "${toy[@]}" hydra.run.dir="$study/demo" "$@"
    for name in record other; do cp -r "$study/demo" "$study/$name"; done # one toy stands for three models
else
    study=$OUT/study-broken_genes
    python -m genoseq.train data.genome=ecoli hydra.run.dir="$study/demo" "$@"
    python -m genoseq.train experiment=record data.genome=ecoli hydra.run.dir="$study/record" "$@"
    python -m genoseq.train experiment=record data.genome=klebsiella hydra.run.dir="$study/other" "$@"
    python -m genoseq.train -m data.genome=ecoli mixer=none data/split=blocks data.split.fold=0,1,2,3,4 \
        hydra.launcher.n_jobs=1 sweep.dir="$study/folds" "$@"
fi
python experiments/broken_genes/effects.py "$study"
python experiments/broken_genes/plant.py "$study"
score() { # a model, and where its scores go
    python -m genoseq.score variants=frameshifts mixer=none ckpt="$study/$1/checkpoints/best.ckpt" hydra.run.dir="$study/$2" "${@:3}"
}
score "folds/*" edits-folds
score demo edits-demo
score demo planted-demo data.genome="$study/planted.fa"
if [[ ${QUICK:-} ]]; then
    for name in edits-record edits-other; do cp -r "$study/edits-demo" "$study/$name"; done
    cp -r "$study/planted-demo" "$study/planted-record"
else
    score record edits-record
    score record planted-record data.genome="$study/planted.fa"
    score other edits-other data.genome=ecoli region=3711741-4639675 # the part that the other two hold out
fi
python experiments/broken_genes/loci.py "$study"
python experiments/broken_genes/plot.py "$study" ${QUICK:+--out "$study"}
