#!/usr/bin/env bash
# The runs of this study, then its table and figure. QUICK=1: toy sizes, into $OUT/quick-context only.
set -euo pipefail
OUT=${OUT:-outputs}

if [[ ${QUICK:-} ]]; then
    python -m genoseq.train -m experiment=context data.seq_len=100,10 tokens=4000 tokens_per_step=1000 model.hidden_size=8 \
        data.genome=tests/data/files/hpylori_start.txt trainer=cpu logger=none hydra/launcher=basic \
        sweep.dir="$OUT/quick-context" "$@"
    exec python experiments/context/plot.py "$OUT/quick-context" --out "$OUT/quick-context"
fi
python -m genoseq.train -m experiment=context data.seq_len=5000,1000,500,200,100,50,10 seed=0,1 sweep.dir="$OUT/study-context" "$@"
python experiments/context/plot.py "$OUT/study-context"
