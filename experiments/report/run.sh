#!/usr/bin/env bash
# The runs of this study, then its table and figures. QUICK=1: toy sizes, into $OUT/quick-report only. FULL=1: the
# report's scale, for a GPU; the same command again resumes. LEG=30m: save and stop after 30 minutes, with exit code 124.
set -euo pipefail
OUT=${OUT:-outputs}

if [[ ${QUICK:-} ]]; then
    python -m genoseq.train -m experiment=report1 data/split=random_windows,contiguous data.bases=8000 model.hidden_size=8 \
        data.batch_size=4 data.eval_windows=16 trainer.max_steps=4 trainer.log_every_n_steps=2 trainer=cpu logger=none \
        hydra/launcher=basic sweep.dir="$OUT/quick-report" "$@"
    exec python experiments/report/plot.py "$OUT/quick-report" --out "$OUT/quick-report"
fi
if [[ ${FULL:-} ]]; then
    ${LEG:+timeout "$LEG"} python -m genoseq.train -m experiment=model1,model2,model3 data/split=random_windows,contiguous data.genome=klebsiella data.carry_state=false sweep.dir="$OUT/study-report-full" "$@"
    exec python experiments/report/plot.py "$OUT/study-report-full"
fi
python -m genoseq.train -m experiment=report1,report2,report3 data/split=random_windows,contiguous data.genome=klebsiella data.bases=50000 sweep.dir="$OUT/study-report" "$@"
python experiments/report/plot.py "$OUT/study-report"
