#!/usr/bin/env bash
# The runs of this study, then its table and figure. QUICK=1: toy sizes, into $OUT/quick-leakage only.
set -euo pipefail
OUT=${OUT:-outputs}

if [[ ${QUICK:-} ]]; then
    python -m genoseq.train -m experiment=leakage data/split=random_windows,contiguous data.bases=4000 data.seq_len=50 \
        model.hidden_size=8 data.batch_size=4 trainer.max_steps=4 data.genome=tests/data/files/hpylori_start.txt \
        trainer=cpu logger=none hydra/launcher=basic sweep.dir="$OUT/quick-leakage" "$@"
    exec python experiments/leakage/plot.py "$OUT/quick-leakage" --out "$OUT/quick-leakage"
fi
python -m genoseq.train -m experiment=leakage,leakage_tables data.split.window_stride=1,10,50,100,200 sweep.dir="$OUT/study-leakage" "$@"
python -m genoseq.train -m experiment=leakage,leakage_tables data/split=contiguous sweep.dir="$OUT/study-leakage" "$@"
python experiments/leakage/plot.py "$OUT/study-leakage"
