#!/usr/bin/env bash
# The runs of this study, then its table and figure. QUICK=1: toy sizes, into $OUT/quick-compressors only.
set -euo pipefail
OUT=${OUT:-outputs}

if [[ ${QUICK:-} ]]; then
    sweep=$OUT/quick-compressors
    python -m genoseq.train -m data=char,kmer_disjoint data.bases=60000 model.hidden_size=8 data.batch_size=4 mixer.steps=20 \
        trainer=cpu trainer.max_steps=5 logger=none hydra/launcher=basic sweep.dir="$sweep" "$@"
    python experiments/compressors/ablation.py "$sweep"
    exec python experiments/compressors/plot.py "$sweep" --out "$sweep"
fi
sweep=$OUT/study-compressors
# one run at a time, a process each: seconds and memory are in the table
genomes=(-m data.genome=hpylori,ecoli,klebsiella hydra.launcher.n_jobs=1 sweep.dir="$sweep")
python -m genoseq.train "${genomes[@]}" "$@"
python -m genoseq.train "${genomes[@]}" model=rnn3 data=kmer,kmer_disjoint "$@"
python experiments/compressors/ablation.py "$sweep"
python experiments/compressors/plot.py "$sweep"
