#!/usr/bin/env bash
# Every selector and every part on the beams of the demo, three seeds each, in one report. Needs `make demo` first.
#
#   bash recipes/demo_selectors/run.sh        (from the repository's root; what is complete is not run again)
set -euo pipefail

FOLDER=recipes/demo_selectors
OUTPUTS=outputs/demo_selectors
SEEDS=(0 1 2)
RUN="${PYTHON:-.venv/bin/python} -m leverplus_trl.cli"
export OMP_NUM_THREADS=1

# name: what is different from 20_sft.yaml
sft() { # sft NAME SEED [--field value ...]
  $RUN sft --config $FOLDER/20_sft.yaml --seed "$2" --output_dir "$OUTPUTS/$1/$2" "${@:3}"
}

all_of_a_seed() {
  sft v0 "$1" --selector v0 --learning_rate 5e-4 --num_train_epochs 12
  sft v1 "$1" --selector v1
  sft v2 "$1" --selector v2
  sft v2+gru "$1" --history gru
  sft v2+additive "$1" --scoring additive
  sft v2+mmr "$1" --diversity mmr
  sft v2+stop "$1" --stop true
  # from pixels; each epoch costs much more and teaches more
  sft v2_lora "$1" --selector v2_lora --num_train_epochs 8 --eval_steps 0.25 --save_steps 0.25
  # v3 is v2, then offline RL on its own samples
  $RUN rollouts --config $FOLDER/30_rollouts.yaml --selector "$OUTPUTS/v2/$1" --output_dir "$OUTPUTS/rollouts/$1"
  $RUN grpo --config $FOLDER/40_grpo.yaml --seed "$1" --selector "$OUTPUTS/v2/$1" \
    --rollouts "$OUTPUTS/rollouts/$1" --output_dir "$OUTPUTS/v3/$1"
}

for seed in "${SEEDS[@]}"; do
  all_of_a_seed "$seed"
done
$RUN evaluate --config $FOLDER/50_evaluate.yaml
$RUN report --config $FOLDER/60_report.yaml
