#!/usr/bin/env bash
# One sampler of a paper's table: beams once, each selector three times, one evaluation, and a report on all samplers
# that have been evaluated so far.
#
#   bash recipes/experiment.sh RECIPE [SAMPLER] [SELECTOR ...]
#   bash recipes/experiment.sh okvqa_qwen2.5_vl_3b mix v1 v2 v4
#
# SAMPLER is random (default), text_sim, image_sim, image_text_sim or mix; a SELECTOR v0, v1, v2 (default), v2_lora, or
# v3 or v4, which are v2 and then offline RL. Where there are no images: random, text_sim; all but v2_lora. Run it from
# the repository's root; what is complete is not run again.
#
#   SEEDS="0 1 2"                             seeds of the selectors
#   VLM_ARGS="--accelerate_config single"     goes to every stage that calls the VLM
#   PYTHON=echo                               prints the stages and runs none
set -euo pipefail

fail() {
  echo "experiment.sh: $1" >&2
  exit 2
}

NAME="${1:-}"
SAMPLER="${2:-random}"
SELECTORS=("${@:3}")
SAMPLERS=(random text_sim image_sim image_text_sim mix)
((${#SELECTORS[@]})) || SELECTORS=(v2)
read -ra SEEDS <<< "${SEEDS:-0 1 2}"
read -ra VLM_ARGS <<< "${VLM_ARGS:-}"
FOLDER="recipes/$NAME"
OUTPUTS="outputs/$NAME"
HERE="$OUTPUTS/$SAMPLER"
RUN="${PYTHON:-.venv/bin/python} -m leverplus_trl.cli"
export TOKENIZERS_PARALLELISM=false

test -n "$NAME" && test -e "$FOLDER/11_test_beams.yaml" ||
  fail "no recipe '$NAME'; expected one of $(cd recipes && echo */11_test_beams.yaml | sed 's:/11_test_beams.yaml::g')"
[[ " ${SAMPLERS[*]} " == *" $SAMPLER "* ]] ||
  fail "no sampler '$SAMPLER'; expected $(printf '%s, ' "${SAMPLERS[@]}" | sed 's/, $//')"
if grep -q '^query_features: \[text\]' "$FOLDER/20_sft.yaml"; then
  for word in "$SAMPLER" "${SELECTORS[@]}"; do
    case "$word" in
      v2_lora | image_sim | image_text_sim | mix) fail "$word looks at images, which $FOLDER has none of" ;;
    esac
  done
fi
for selector in "${SELECTORS[@]}"; do
  case "$selector" in
    v0 | v1 | v2 | v2_lora) ;;
    v3 | v4) test -e "$FOLDER/40_grpo.yaml" || fail "$selector is offline RL, which $FOLDER has no recipes for" ;;
    *) fail "no selector '$selector'; expected v0, v1, v2, v2_lora, v3 or v4" ;;
  esac
done

vlm() { # vlm STAGE RECIPE [--field value ...]: a stage that calls the VLM
  $RUN "$1" --config "$FOLDER/$2" "${@:3}" ${VLM_ARGS[@]+"${VLM_ARGS[@]}"}
}

sft() { # sft NAME SEED [--field value ...]
  $RUN sft --config "$FOLDER/20_sft.yaml" --beams "$HERE/beams" --seed "$2" --output_dir "$HERE/$1/$2" \
    --selector "$1" "${@:3}"
}

train() { # train SELECTOR SEED
  case "$1" in
    v0) sft v0 "$2" --learning_rate 5e-4 --num_train_epochs 12 ;;
    # From pixels: an epoch costs much more and teaches more. As many queries in a step as the others, few at a time, and
    # CLIP's layers run again for their gradients: activations of the 130 images of two queries would take 71 GB.
    v2_lora)
      sft v2_lora "$2" --num_train_epochs 8 --eval_steps 0.25 --save_steps 0.25 --gradient_checkpointing true \
        --per_device_train_batch_size 2 --gradient_accumulation_steps 16 --per_device_eval_batch_size 4
      ;;
    v3 | v4)
      v2_of_seed "$2"
      vlm rollouts 30_rollouts.yaml --beams "$HERE/beams" --selector "$HERE/v2/$2" --output_dir "$HERE/rollouts/$2"
      $RUN grpo --config "$FOLDER/40_grpo.yaml" --seed "$2" --selector "$HERE/v2/$2" \
        --rollouts "$HERE/rollouts/$2" --output_dir "$HERE/$1/$2"
      ;;
    v2) v2_of_seed "$2" ;;
    *) sft "$1" "$2" ;;
  esac
}

TRAINED=" "
v2_of_seed() { # once, whether it was named or v3 or v4 goes on from it
  [[ "$TRAINED" == *" $1 "* ]] || sft v2 "$1"
  TRAINED+="$1 "
}

EXAMPLES=$(sed -n 's/^output_dir: //p' "$FOLDER/00_prepare.yaml")
test -e "$EXAMPLES/README.md" || $RUN prepare --config "$FOLDER/00_prepare.yaml"
vlm beams 10_beams.yaml --sampler "$SAMPLER" --output_dir "$HERE/beams"
vlm beams 11_test_beams.yaml --sampler "$SAMPLER" --output_dir "$HERE/test_beams"
paths=()
for selector in "${SELECTORS[@]}"; do
  for seed in "${SEEDS[@]}"; do
    train "$selector" "$seed"
    paths+=("$selector=$HERE/$selector/$seed")
  done
done

evaluation="$HERE/evaluation_$(IFS=+ && echo "${SELECTORS[*]}")_seeds_$(IFS=+ && echo "${SEEDS[*]}")"
vlm evaluate 50_evaluate.yaml --sampler "$SAMPLER" --beams "$HERE/test_beams" --selectors "${paths[@]}" \
  --output_dir "$evaluation"

# This evaluation, and the newest one of each other sampler.
evaluations=("$SAMPLER=$evaluation")
for sampler in "${SAMPLERS[@]}"; do
  newest=$(ls -td "$OUTPUTS/$sampler"/evaluation_*_seeds_*/results.json 2> /dev/null | head -n 1 || true)
  if test "$sampler" != "$SAMPLER" && test -n "$newest"; then
    evaluations+=("$sampler=$(dirname "$newest")")
  fi
done
# Made anew of all there is; the one before stays until this one is whole.
rm -rf "$OUTPUTS/.report"
$RUN report --config "$FOLDER/60_report.yaml" --evaluation "${evaluations[@]}" --beams "$HERE/test_beams" \
  --output_dir "$OUTPUTS/.report"
# There is none where the stages were only printed.
if test -e "$OUTPUTS/.report"; then
  rm -rf "$OUTPUTS/report"
  mv "$OUTPUTS/.report" "$OUTPUTS/report"
  echo "The report now is $OUTPUTS/report/index.html."
fi
