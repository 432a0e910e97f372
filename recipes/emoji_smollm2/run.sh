#!/usr/bin/env bash
# All stages with three seeds of the selector and of random choice, in one report. README.md names the packages it needs.
#
#   bash recipes/emoji_smollm2/run.sh        (from the repository's root; what is complete is not run again)
set -euo pipefail

FOLDER=recipes/emoji_smollm2
PYTHON="${PYTHON:-.venv/bin/python}"
RUN="$PYTHON -m leverplus_trl.cli"
export OMP_NUM_THREADS=1

$PYTHON data/emoji/prepare.py --config $FOLDER/00_prepare.yaml
$RUN beams --config $FOLDER/10_beams.yaml
for seed in 0 1 2; do
  $RUN sft --config $FOLDER/20_sft.yaml --seed $seed --output_dir outputs/emoji/sft/$seed
done
$RUN evaluate --config $FOLDER/50_evaluate.yaml
$RUN report --config $FOLDER/60_report.yaml
