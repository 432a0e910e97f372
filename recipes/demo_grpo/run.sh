#!/usr/bin/env bash
# What offline RL adds to selectors that supervised training leaves short, three seeds each. Needs `make demo` first.
#
#   bash recipes/demo_grpo/run.sh        (from the repository's root; what is complete is not run again)
set -euo pipefail

FOLDER=recipes/demo_grpo
OUTPUTS=outputs/demo_grpo
RUN="${PYTHON:-.venv/bin/python} -m leverplus_trl.cli"
export OMP_NUM_THREADS=1

# start START SEED [what SFT does otherwise than 20_sft.yaml]: SFT, its rollouts on all training queries, GRPO
start() {
  local to="$OUTPUTS/$1" seed=$2
  $RUN sft --config $FOLDER/20_sft.yaml --seed "$seed" --output_dir "$to/sft/$seed" "${@:3}"
  $RUN rollouts --config $FOLDER/30_rollouts.yaml --selector "$to/sft/$seed" --output_dir "$to/rollouts/$seed"
  grpo "$1" "$seed" grpo 40_grpo.yaml
}

# grpo START SEED NAME RECIPE
grpo() {
  local to="$OUTPUTS/$1"
  $RUN grpo --config "$FOLDER/$4" --seed "$2" --selector "$to/sft/$2" --rollouts "$to/rollouts/$2" \
    --output_dir "$to/$3/$2"
}

for seed in 0 1 2; do
  # Beams of 60 queries, rollouts of 300: answering 16 prompts costs a fraction of searching beams.
  start few "$seed" --train_split 'train[:60]'
  # The papers' loss, cross-entropy to the best five beams, on all 300 queries.
  start beams "$seed" --loss_type beams
  grpo few "$seed" reversed 41_reversed.yaml
done
$RUN evaluate --config $FOLDER/50_evaluate.yaml
$RUN report --config $FOLDER/60_report.yaml
