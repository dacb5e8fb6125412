#!/usr/bin/env bash
# The runs of this study, then its table and figure. QUICK=1: toy sizes, into $OUT/quick-sweep only.
set -euo pipefail
OUT=${OUT:-outputs}

if [[ ${QUICK:-} ]]; then
    python -m genoseq.train -m experiment=sweep data.seq_len=10,50 model.embed_dim=4 tokens=2000 model.hidden_size=8 \
        data.batch_size=4 data.genome=tests/data/files/hpylori_start.txt trainer=cpu logger=none hydra/launcher=basic \
        sweep.dir="$OUT/quick-sweep" "$@"
    exec python experiments/sweep/plot.py "$OUT/quick-sweep" --out "$OUT/quick-sweep"
fi
python -m genoseq.train experiment=sweep hparams_search=report sweep.dir="$OUT/study-sweep" "$@"
python -m genoseq.train hparams_search=replicate 'hydra.sweeper.seeds=[1,2]' sweep.dir="$OUT/study-sweep" "$@"
python experiments/sweep/plot.py "$OUT/study-sweep"
