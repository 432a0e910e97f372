#!/usr/bin/env bash
# Does training CLIP, too, help where it sees little? v2 and v2_lora on a hardly trained CLIP. Needs `make demo` first.
#
#   bash recipes/demo_lora/run.sh        (from the repository's root; what is complete is not run again)
set -euo pipefail

FOLDER=recipes/demo_lora
OUTPUTS=outputs/demo_lora
PYTHON="${PYTHON:-.venv/bin/python}"
export OMP_NUM_THREADS=1

test -e $OUTPUTS/clip/model.safetensors || $PYTHON data/concept_binding/train_clip.py --config $FOLDER/00_prepare.yaml
for seed in 0 1; do
  $PYTHON -m leverplus_trl.cli sft --config $FOLDER/20_sft.yaml --seed $seed --output_dir $OUTPUTS/v2/$seed
  $PYTHON -m leverplus_trl.cli sft --config $FOLDER/20_sft.yaml --seed $seed --output_dir $OUTPUTS/v2_lora/$seed \
    --selector v2_lora --num_train_epochs 16 --eval_steps 0.125 --save_steps 0.125
done
$PYTHON -m leverplus_trl.cli evaluate --config $FOLDER/50_evaluate.yaml
$PYTHON -m leverplus_trl.cli report --config $FOLDER/60_report.yaml
