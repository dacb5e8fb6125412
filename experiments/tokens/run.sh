#!/usr/bin/env bash
# The runs of this study, then its table and figure. QUICK=1: toy sizes, into $OUT/quick-tokens only.
set -euo pipefail
OUT=${OUT:-outputs}

if [[ ${QUICK:-} ]]; then
    python -m genoseq.train -m experiment=tokens data.k=3 data=kmer,kmer_disjoint tokens=1280 model.hidden_size=8 \
        data.batch_size=4 data.genome=tests/data/files/hpylori_start.txt trainer=cpu logger=none hydra/launcher=basic \
        sweep.dir="$OUT/quick-tokens" "$@"
    exec python experiments/tokens/plot.py "$OUT/quick-tokens" --out "$OUT/quick-tokens"
fi
python -m genoseq.train -m experiment=tokens data.k=6,5,4,3,2 data=kmer,kmer_disjoint sweep.dir="$OUT/study-tokens" "$@"
python -m genoseq.train -m experiment=tokens 'data=choice(char)' seed=0,1 sweep.dir="$OUT/study-tokens" "$@"
python experiments/tokens/plot.py "$OUT/study-tokens"
