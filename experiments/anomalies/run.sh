#!/usr/bin/env bash
# The run of this study, then its table and figure. QUICK=1: toy sizes, into $OUT/quick-anomalies only.
set -euo pipefail
OUT=${OUT:-outputs}

if [[ ${QUICK:-} ]]; then
    study=$OUT/quick-anomalies
    python -m genoseq.train data.bases=200000 model.hidden_size=8 data.batch_size=4 trainer=cpu trainer.max_steps=5 \
        logger=none mixer.steps=20 hydra.run.dir="$study/run" "$@"
    python experiments/anomalies/measure.py "$study/run" tests/data/files/hpylori_start.txt
    exec python experiments/anomalies/plot.py "$study" --out "$study"
fi
study=$OUT/study-anomalies
python -m genoseq.train data.genome=ecoli hydra.run.dir="$study/run" "$@"
python experiments/anomalies/measure.py "$study/run" hpylori klebsiella
python experiments/anomalies/plot.py "$study"
