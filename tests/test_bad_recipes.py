# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
A table of recipes and command lines that can't be meant. Each is refused before anything heavy is imported, in a
sentence that names the key (or the line), what was found and what was expected.
"""

import re

import pytest

from leverplus_trl.recipe import UsageError
from leverplus_trl.scripts.parsers import make_parser


#: The least that a recipe of each stage says.
BASES = {
    "prepare": {"dataset": "okvqa", "root": "raw", "output_dir": "out"},
    "beams": {"dataset": "data", "vlm": "model", "output_dir": "out"},
    "sft": {"dataset": "data", "beams": "beams", "output_dir": "out"},
    "rollouts": {"dataset": "data", "vlm": "model", "beams": "beams", "output_dir": "out"},
    "grpo": {"dataset": "data", "selector": "selector", "rollouts": "rollouts", "output_dir": "out"},
    "evaluate": {"dataset": "data", "vlm": "model", "output_dir": "out"},
    "report": {"dataset": "data", "evaluation": "evaluation", "output_dir": "out"},
}

#: A line a recipe: stage | what is added to or replaced in its base | what the message says.
RECIPES = """
beams | stage: null | the recipe says `stage: null`; expected beams
beams | stage: sft | the recipe says `stage: sft`; expected beams
beams | stage: [beams] | stage is [beams]; expected a single text
beams | stage: {beams: 1} | stage is {beams: 1}; expected a single text
beams | dataset: null | dataset is null; expected text
beams | dataset: "" | dataset is empty; expected text
beams | dataset: "  " | dataset is '  '; expected text
beams | dataset: [data] | dataset is the list [data]; expected text
beams | dataset: {path: data} | dataset is the mapping {path: data}; expected text
beams | dataset: true | dataset is true; expected text
beams | dataset_config: no | dataset_config is no; expected text, or null
beams | data_files: {train: {a: b}} | data_files['train'] is the mapping {a: b}
beams | data_files: {train: null} | data_files['train'] is null
beams | data_files: [[a.csv]] | Item 1 of data_files is [a.csv]
beams | data_files: {train: tests} | which is a folder; expected a file
beams | columns: question | columns is question; expected a mapping from names to texts, or null
beams | columns: [question] | columns is the list [question]; expected a mapping
beams | columns: {question: null} | columns['question'] is null; expected text
beams | columns: {question: [a, b]} | columns['question'] is the list [a, b]; expected text
beams | columns: {question: a, answer: a} | columns maps both question and answer to 'a': the VLM would be shown
beams | columns: {answers: a, question: a} | columns maps both question and answers to 'a'
beams | columns: {answer: a, answer: b} | the key 'answer' was set in line
beams | image_dir: setup.cfg | image_dir is 'setup.cfg', which is a file; expected a folder
beams | image_dir: [a] | image_dir is the list [a]
beams | pool_split: null | pool_split is null; expected text
beams | pool_split: [pool] | pool_split is the list [pool]; expected text
beams | pool_split: "" | pool_split is empty
beams | on_bad_example: stop | on_bad_example is 'stop'; expected one of raise, skip
beams | on_bad_example: null | on_bad_example is null; expected one of raise, skip
beams | on_bad_example: true | on_bad_example is true; expected one of raise, skip
beams | task: vga | task is 'vga'; expected one of vqa
beams | task: null | task is null
beams | task: [vqa] | task is the list [vqa]
beams | metric: f1 | metric is 'f1'; expected one of
beams | metric: [exact_match] | metric is the list [exact_match]
beams | question_template: "Look." | question_template
beams | question_template: "" | question_template is empty
beams | question_template: [a] | question_template is the list [a]
beams | answer_template: "It is so." | answer_template
beams | labels: yes | labels is yes; expected a list of texts, or null
beams | labels: red | labels is red; expected a list of texts, or null. Write [red].
beams | labels: [] | labels is an empty list
beams | labels: [red, red] | names something twice
beams | labels: [red, null] | Item 2 of labels is null
beams | labels: [red, ""] | Item 2 of labels is empty
beams | labels: [[red]] | Item 1 of labels is [red]
beams | labels: {a: b} | labels is the mapping {a: b}
beams | max_new_tokens: 0 | max_new_tokens is 0; expected a whole number of at least 1
beams | max_new_tokens: -4 | max_new_tokens is -4
beams | max_new_tokens: 4.5 | max_new_tokens is 4.5; expected a whole number
beams | max_new_tokens: many | max_new_tokens is many
beams | max_new_tokens: true | max_new_tokens is true
beams | max_new_tokens: [4] | max_new_tokens is the list [4]
beams | max_new_tokens: .inf | max_new_tokens is .inf
beams | max_new_tokens: 1e400 | max_new_tokens is 1e400
beams | stop_strings: ["a", ""] | Item 2 of stop_strings is empty; expected text
beams | answering: jsno | answering is 'jsno'; expected one of direct
beams | stop_strings: [a, a] | which names something twice
beams | stop_strings: {a: b} | stop_strings is the mapping
beams | vlm: null | vlm is null; expected text
beams | vlm: 3 3: 4 | no valid YAML
beams | vlm: [a, b] | vlm is the list [a, b]
beams | dtype: fp16 | dtype is 'fp16'; expected one of float32
beams | dtype: int8 | dtype is 'int8'; expected one of
beams | dtype: 16 | dtype is '16'; expected one of
beams | dtype: null | dtype is null
beams | quantization: 4 | quantization is '4'; expected one of 4bit, 8bit
beams | quantization: true | quantization is true; expected one of 4bit
beams | device_map: cuda | device_map is 'cuda'; expected one of auto
beams | device_map: {model: 0} | device_map is the mapping {model: 0}
beams | prompt_format: chatml | prompt_format is 'chatml'; expected one of auto, chat, plain
beams | system_prompt: [a] | system_prompt is the list [a]
beams | score_end_token: maybe | score_end_token is maybe; expected true or false
beams | score_end_token: 1 | score_end_token is 1; expected true or false
beams | score_end_token: null | score_end_token is null; expected true or false
beams | score_end_token: "true" | Leave out the quotes
beams | max_batch_tokens: 0 | max_batch_tokens is 0
beams | max_batch_tokens: 2k | max_batch_tokens is 2k
beams | max_batch_tokens: "2048" | Leave out the quotes
beams | memory_mb: 0 | memory_mb is 0
beams | memory_mb: -1 | memory_mb is -1
beams | memory_mb: 12GB | memory_mb is 12GB
beams | memory_mb: .nan | memory_mb is .nan
beams | trust_remote_code: please | trust_remote_code is please
beams | sampler: nearest | sampler is 'nearest'; expected one of random
beams | sampler: mix | sampler
beams | sampler: [random, mix] | sampler is the list
beams | num_candidates: 0 | num_candidates is 0
beams | num_candidates: 1e2 | Write 100.
beams | num_candidates: 64.0 | Write 64.
beams | num_candidates: 0x40 | YAML reads 0x40 as 64
beams | num_candidates: 010 | YAML reads 010 as 8
beams | num_candidates: 1:30 | YAML reads 1:30 as 90
beams | num_candidates: 99999999999999999999 | num_candidates is 99999999999999999999
beams | num_candidates: null | num_candidates is null
beams | sampler_seed: -1 | sampler_seed is -1; expected a whole number of at least 0
beams | sampler_seed: 0.5 | sampler_seed is 0.5
beams | encoder: setup.cfg | which is a file; expected a folder
beams | encoder_batch_size: 0 | encoder_batch_size is 0
beams | query_splits: train | query_splits is train; expected a list of texts. Write [train].
beams | query_splits: [] | query_splits is an empty list
beams | query_splits: [train, train] | names something twice
beams | query_splits: [null] | Item 1 of query_splits is null
beams | query_splits: {train: 1} | query_splits is the mapping
beams | query_splits: null | query_splits is null
beams | num_queries: 0 | num_queries is 0
beams | num_queries: [10] | num_queries is the list [10]
beams | num_queries: all | num_queries is all
beams | num_shots: 0 | num_shots is 0
beams | num_shots: two | num_shots is two
beams | num_shots: 2.5 | num_shots is 2.5
beams | num_shots: [1, 2] | num_shots is the list [1, 2]
beams | beam_size: -5 | beam_size is -5
beams | beam_size: .nan | beam_size is .nan
beams | insertion: middle | insertion is 'middle'; expected one of left, right
beams | objective: sum | objective is 'sum'; expected one of cumulative, marginal
beams | score: logits | score is 'logits'; expected one of prob, logprob, metric
beams | unit_size: -3 | unit_size is -3
beams | unit_size: 0 | unit_size is 0
beams | preflight_seed: x | preflight_seed is x
beams | output_dir: null | output_dir is null
beams | output_dir: "" | output_dir is empty
beams | output_dir: setup.cfg | output_dir is 'setup.cfg', which is a file; expected a folder
beams | output_dir: [out] | output_dir is the list [out]
beams | push_to_hub: true | push_to_hub is true
beams | hub_private_repo: secret | hub_private_repo is secret
beams | num_threads: 0 | num_threads is 0
beams | num_threads: auto | num_threads is auto
beams | dry_run: perhaps | dry_run is perhaps
beams | overwrite: force | overwrite is force
beams | num_shards: 0 | num_shards is 0
beams | num_shards: 4 | shard_index
beams | shard_index: 3 | shard_index is 3
beams | shard_index: -1 | shard_index is -1
beams | num_candidatez: 8 | did you mean num_candidates?
beams | Num_shots: 2 | did you mean num_shots?
beams | num-shots: 2 | did you mean num_shots?
beams | learning_rate: 1e-4 | it is a key of the stages
beams | selectors: [a] | it is a key of the stage evaluate
beams | banana: 1 | unknown key banana
beams | 7: 1 | unknown key 7
beams | null: 1 | unknown key null
beams | env: CUDA_VISIBLE_DEVICES=0 | env must be a mapping
beams | env: [A] | env must be a mapping
beams | env: {A: {B: 1}} | env must be a mapping
beams | num_shots: !!int two | num_shots
beams | num_shots: !!python/name:os.system | has no meaning in a recipe
sft | beams: null | beams is null
sft | beams: setup.cfg | which is a file; expected a folder
sft | beams: [a, b] | beams is the list [a, b]
sft | train_split: [train] | train_split is the list
sft | train_split: null | train_split is null
sft | eval_split: [a] | eval_split is the list
sft | selector: v5 | selector is 'v5'; expected one of v0
sft | selector: 2 | selector is '2'; expected one of v0
sft | selector: null | selector is null
sft | encoding: query_img | encoding is 'query_img'; expected one of
sft | query_features: text | query_features is text
sft | query_features: [answer] | Item 1 of query_features is 'answer'; expected
sft | query_features: [] | query_features is an empty list
sft | query_features: [text, text] | names something twice
sft | candidate_features: [picture] | Item 1 of candidate_features is 'picture'; expected
sft | hidden_size: 0 | hidden_size is 0
sft | hidden_size: 3.5 | hidden_size is 3.5
sft | num_tower_layers: 1 | num_tower_layers is 1
sft | num_heads: 0 | num_heads is 0
sft | history: lstm | history is 'lstm'; expected one of
sft | scoring: dot | scoring is 'dot'; expected one of
sft | stop: sometimes | stop is sometimes
sft | dropout: 1.0 | dropout is 1.0; expected a number of at least 0 and below 1
sft | dropout: -0.1 | dropout is -0.1
sft | dropout: .nan | dropout is .nan
sft | initial_temperature: 0 | initial_temperature is 0; expected a number above 0
sft | lora_bias: some | lora_bias is 'some'
sft | cache_mb: -1 | cache_mb is -1
sft | tau: 0 | tau is 0; expected a number above 0
sft | tau: -.inf | tau is -.inf
sft | tau: "0.1" | Leave out the quotes
sft | top_n: 0 | top_n is 0
sft | loss_type: dpo | loss_type is 'dpo'; expected one of listwise, beams
sft | score_weights: linear | score_weights is 'linear'
sft | label_smoothing: 1 | label_smoothing is 1
sft | learning_rate: fast | learning_rate is fast; expected a number
sft | learning_rate: -1e-4 | learning_rate is -1e-4
sft | learning_rate: .inf | learning_rate is .inf
sft | learning_rate: null | learning_rate is null
sft | learning_rate: 1e-4 5 | learning_rate is 1e-4 5
sft | num_train_epochs: 0 | num_train_epochs is 0
sft | num_train_epochs: .nan | num_train_epochs is .nan
sft | per_device_train_batch_size: 0 | per_device_train_batch_size is 0
sft | per_device_train_batch_size: 8.5 | per_device_train_batch_size is 8.5
sft | seed: one | seed is one
sft | bf16: half | bf16 is half
sft | lr_scheduler_type: cosin | lr_scheduler_type is 'cosin'; expected one of
sft | eval_strategy: always | eval_strategy is 'always'
sft | learning_rte: 1 | did you mean learning_rate?
sft | max_new_tokens: 5 | it is a key of the stages
rollouts | selector: setup.cfg | which is a file; expected a folder
rollouts | num_rollouts: 1 | num_rollouts is 1; expected a whole number of at least 2
rollouts | num_rollouts: 3 | num_rollouts is 3
rollouts | num_samples: -1 | num_samples is -1
rollouts | temperatures: 1.0 | temperatures is 1.0; expected a list of numbers
rollouts | temperatures: [0.0] | Item 1 of temperatures is 0.0
rollouts | temperatures: [hot] | Item 1 of temperatures is hot
rollouts | temperatures: [1.0, 1.0] | names something twice
rollouts | temperatures: [.nan] | Item 1 of temperatures is .nan
rollouts | similarities: [sound_sim] | Item 1 of similarities is 'sound_sim'
rollouts | similarities: text_sim | similarities is text_sim
rollouts | rollout_seed: -2 | rollout_seed is -2
rollouts | previous_rollouts: [a] | previous_rollouts is the list
rollouts | unit_size: 1.5 | unit_size is 1.5
grpo | rollouts: null | rollouts is null
grpo | selector: [a] | selector is the list
grpo | reward_funcs: accuracy | reward_funcs is accuracy; expected a list of texts
grpo | reward_funcs: [] | reward_funcs is an empty list
grpo | reward_weights: [1.0, 2.0] | reward_weights
grpo | reward_weights: [heavy] | Item 1 of reward_weights is heavy
grpo | reward_weights: [.inf] | Item 1 of reward_weights is .inf
grpo | scale_rewards: all | scale_rewards is 'all'
grpo | advantage_clip: 0 | advantage_clip is 0
grpo | rce_tau_start: -1 | rce_tau_start is -1
grpo | curriculum_top_k: 0 | curriculum_top_k is 0
grpo | num_iterations: 0 | num_iterations is 0
grpo | epsilon: 1.5 | epsilon is 1.5
grpo | epsilon: .nan | epsilon is .nan
grpo | importance_sampling_level: token | importance_sampling_level is 'token'
grpo | loss_type: ppo | loss_type is 'ppo'
grpo | beta: -0.1 | beta is -0.1
grpo | kl_low: 0.5 | kl_low
grpo | adaptive_beta: auto | adaptive_beta is auto
evaluate | eval_split: null | eval_split is null
evaluate | eval_split: [test] | eval_split is the list
evaluate | num_queries: [] | num_queries is an empty list
evaluate | num_queries: [0, 5] | Item 1 of num_queries is 0
evaluate | num_queries: [ten] | Item 1 of num_queries is ten
evaluate | methods: random | methods is random
evaluate | methods: [best] | Item 1 of methods is 'best'
evaluate | methods: [random, random] | names something twice
evaluate | methods: [selector] | selectors
evaluate | methods: [oracle] | beams
evaluate | shots: 2 | shots is 2; expected a list of whole numbers
evaluate | shots: [] | shots is an empty list
evaluate | shots: [0] | Item 1 of shots is 0
evaluate | shots: [1, 1] | names something twice
evaluate | shots: [-1] | Item 1 of shots is -1
evaluate | shots: [1.5] | Item 1 of shots is 1.5
evaluate | method_seeds: [] | method_seeds is an empty list
evaluate | method_seeds: [0, 0] | names something twice
evaluate | method_seeds: [-1] | Item 1 of method_seeds is -1
evaluate | selectors: sft | selectors is sft
evaluate | selectors: [oracle=sft] | oracle
evaluate | selectors: [setup.cfg] | which is a file; expected a folder
evaluate | order_probes: -1 | order_probes is -1
evaluate | order_probes: null | order_probes is null
evaluate | unit_size: 0 | unit_size is 0
report | evaluation: [] | evaluation is an empty list
report | evaluation: null | evaluation is null
report | training: {a: b} | training is the mapping
report | num_gallery_queries: -1 | num_gallery_queries is -1
report | title: [a] | title is the list
report | vlm: model | it is a key of the stages
prepare | dataset: okvqaa | dataset is 'okvqaa'; expected one of okvqa
prepare | dataset: [okvqa] | dataset is the list
prepare | root: setup.cfg | which is a file; expected a folder
prepare | splits: train | splits is train; expected a list of texts, or null. Write [train].
prepare | splits: [] | splits is an empty list
prepare | num: -3 | num is -3
prepare | num: {train: all} | num['train'] is all
prepare | num: [3] | num is the list [3]
prepare | seed: -1 | seed is -1
prepare | holdout: 0 | holdout is 0
prepare | embed_images: maybe | embed_images is maybe
prepare | on_bad_example: stop | on_bad_example is 'stop'
beams | num_shots: 65 | num_shots is 65, but each query has 64 candidates (num_candidates); lower num_shots
beams | num_candidates: 1 | num_shots is 2, but each query has 1 candidates
beams | task: text_classification | task is text_classification, which needs labels
beams | encoder_revision: main | encoder_revision is 'main', but encoder is not set
beams | vlm: out | output_dir is 'out', which vlm names, too
beams | dataset: ./out/ | output_dir is 'out', which dataset names, too
beams | split: {pool: 0.5, test: 0.5} | pool_split names 'train', but split makes the parts pool, test; name one
evaluate | split: {train: 0.5, validation: 0.5} | eval_split names 'test', but split makes the parts train, validation
evaluate | shots: [1, 65] | shots holds 65, but each query has 64 candidates (num_candidates); lower shots
evaluate | num_candidates: 3 | shots holds 4, but each query has 3 candidates
evaluate | methods: [text_sim] | methods holds 'text_sim', which compares embeddings, but encoder is not set
evaluate | methods: [random, image_sim_pool] | methods holds 'image_sim_pool', which compares embeddings
evaluate | methods: [mix] | methods holds 'mix', which compares embeddings
evaluate | selectors: [best=out] | output_dir is 'out', which selectors names, too
evaluate | beams: out | output_dir is 'out', which beams names, too
report | evaluation: out | output_dir is 'out', which evaluation names, too
rollouts | beams: out | output_dir is 'out', which beams names, too
rollouts | num_beam_sequences: 16 | the sources are asked for 17 sequences (num_beam_sequences 16
grpo | selector: out | output_dir is 'out', which selector names, too
grpo | rollouts: out | output_dir is 'out', which rollouts names, too
grpo | max_steps: 4 | max_steps is 4, but the warm-up (rce_epochs 2.0, num_iterations 2) takes at least 4 steps
grpo | eval_split: train | eval_split is 'train', as train_split is
sft | eval_split: train | eval_split is 'train', as train_split is
sft | num_layers: 2 | num_layers is set, but the selector v2 has no such field; leave it out, or take v0
sft | lora_r: 4 | lora_r is set, but the selector v2 has no such field; leave it out, or take v2_lora
sft | hidden_size: 130 | hidden_size is 130, which 4 heads (num_heads) can't share evenly
sft | num_heads: 5 | hidden_size is 128, which 5 heads
sft | candidate_features: [] | candidate_features is an empty list, so that a candidate is known by its name alone
sft | encoding: query_img_icd_idx | encoding is query_img_icd_idx, so that a candidate is known by its name alone
"""
ROWS = [tuple(part.strip() for part in line.split(" | ")) for line in RECIPES.strip().splitlines()]

#: A line a command line after the recipe of `beams`: its words | what the message says.
COMMANDS = """
--num_shots | --num_shots has no value
--num_shots 1 2 | --num_shots has the values 1 2
--num_shots two | num_shots is two
--num_shots= | num_shots is empty
--num_shotz 2 | did you mean num_shots?
--query_splits | query_splits is an empty list
--columns {question | no valid YAML
--columns question | columns is question
--score_end_token maybe | score_end_token is maybe
--memory_mb null | -
--memory_mb none | memory_mb is none
--beam_size 1e9 | beam_size is 1e9
--dtype fp32 | dtype is 'fp32'
--output_dir | --output_dir has no value
--beam_size 3 --beam_size 4 | --beam_size is given twice; keep one
--beam-size=3 --beam_size 3 | --beam_size is given twice; keep one
--config again.yaml | --config is given twice; keep one
--split {"pool":0.5,"test":0.5} --pool_split pool --query_splits test train[:9] | query_splits names 'train[:9]', but
""".strip().splitlines()


def write(tmp_path, stage, change):
    """A recipe of a stage with one change, which may replace a key of its base."""
    key = re.split(r":(\s|$)", change)[0]
    base = {"stage": stage, **BASES[stage]}
    lines = [f"{name}: {value}" for name, value in base.items() if name != key]
    lines.insert(0 if key == "stage" else len(lines), change)
    file = tmp_path / "recipe.yaml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def check(stage, words):
    parser = make_parser(stage)
    return parser.check(*parser.read(words))


@pytest.mark.parametrize("stage", BASES)
def test_the_bases_are_good_recipes(stage, tmp_path):
    assert check(stage, ["--config", write(tmp_path, stage, "dry_run: true")])["output_dir"] == "out"


@pytest.mark.parametrize(("stage", "change", "message"), ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_a_recipe_that_can_not_be_meant_is_refused(stage, change, message, tmp_path):
    file = write(tmp_path, stage, change)
    with pytest.raises(UsageError) as refused:
        check(stage, ["--config", file])
    text = str(refused.value)
    assert message in text and (file in text or text.startswith("columns")), text
    assert "\n" not in text and len(text) > len(message)


@pytest.mark.parametrize("line", COMMANDS)
def test_words_that_can_not_be_meant_are_refused(line, tmp_path):
    words, message = (part.strip() for part in line.split(" | "))
    file = write(tmp_path, "beams", "dry_run: true")
    if message == "-":  # what is allowed on a command line as in a recipe
        assert check("beams", ["--config", file, *words.split()])["memory_mb"] is None
        return
    with pytest.raises(UsageError) as refused:
        check("beams", ["--config", file, *words.split()])
    assert message in str(refused.value), str(refused.value)


@pytest.mark.parametrize("stage", BASES)
def test_every_key_that_is_needed_is_asked_for(stage, tmp_path):
    for name in set(BASES[stage]) - {"root"}:  # `hub_id` can stand for `root`
        file = tmp_path / "recipe.yaml"
        rest = [f"{key}: {value}" for key, value in {"stage": stage, **BASES[stage]}.items() if key != name]
        file.write_text("\n".join(rest), encoding="utf-8")
        with pytest.raises(UsageError, match=f"{name} is missing. Set {name} in the recipe"):
            check(stage, ["--config", str(file)])


@pytest.mark.parametrize(
    "line",
    [
        "evaluate --shots 1 65 --beams beams",  # candidates are those of the beams
        "evaluate --shots 1 65 --methods random_pool",
        "evaluate --methods text_sim --beams beams",  # with their encoder
        "grpo --max_steps 5",
        "grpo --max_steps 4 --rce_epochs 2 --num_train_epochs 2",  # a warm-up and nothing else
        "prepare --output_dir okvqa",
        "sft --selector v0 --output_dir v0 --num_layers 1 --candidate_features",
        "sft --selector v1 --hidden_size 130",  # without attention
        "sft --selector v2_lora --lora_r 4",
        "sft --eval_split null --encoding query_text_icd_text",
        'beams --split {"pool":0.5,"train":0.5} --pool_split pool --query_splits train[:10] train[10:]',
    ],
)
def test_what_looks_like_them_and_can_be_meant_is_taken(line, tmp_path):
    stage, *words = line.split()
    assert check(stage, ["--config", write(tmp_path, stage, "dry_run: true"), *words])["dry_run"]


def test_sizes_and_fields_of_selectors_are_those_of_their_configs():
    from leverplus_trl.selectors import GPT2SelectorConfig, PointerSelectorConfig
    from leverplus_trl.selectors.selector_fields import CONFIG_FIELDS, SIZES

    for kind in (GPT2SelectorConfig, PointerSelectorConfig):
        config = kind()
        assert SIZES[kind.model_type] == (config.hidden_size, config.num_heads)
        assert all(hasattr(config, name) for name in CONFIG_FIELDS[kind.model_type])


def test_the_table_is_long():
    assert len(set(ROWS)) == len(ROWS) and len(ROWS) + len(COMMANDS) >= 250
