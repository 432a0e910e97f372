# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Every recipe folder of a published dataset, stage by stage, as it is committed: official files and models are tiny,
and nothing else is changed but sizes."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import datasets
import pytest
import yaml
from paths import ROOT
from recipes.small_recipes import HOLDOUT, NUM_CANDIDATES, SIZES, TEST, furnish, read, run, smaller

from leverplus_trl import stage
from leverplus_trl.metrics import METRICS
from leverplus_trl.scripts import evaluate, prepare
from leverplus_trl.tasks import DataArguments, TaskArguments, load_examples, make_task


FOLDERS = [file.parent for file in sorted(ROOT.glob("recipes/*/11_test_beams.yaml"))]
PAGES = [ROOT / "recipes" / "README.md", *(folder / "README.md" for folder in FOLDERS)]
#: By the last words of a folder's name: class of the model, and what its prompt must hold.
MODELS = {
    "qwen2.5_vl_3b": "Qwen2_5_VLForConditionalGeneration",
    "flamingo_3b": "OpenFlamingoModel",
    "qwen2.5_3b": "Qwen2ForCausalLM",
}
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
PROMPTS = {
    "okvqa_qwen2.5_vl_3b": ("<|vision_end|>", "?" + SHORT_ANSWER + "<|im_end|>"),
    "vqav2_qwen2.5_vl_3b": ("<|vision_end|>", "?" + SHORT_ANSWER + "<|im_end|>"),
    "okvqa_flamingo_3b": ("<image>Question:", "? Short answer:"),
    "vqav2_flamingo_3b": ("<image>Question:", "? Short answer:"),
    "coco_captions_flamingo_3b": ("<image>Output:", "<|endofchunk|><image>Output:"),
    "scienceqa_qwen2.5_vl_3b": ("<|vision_end|>", "Options: (A) ", "Answer as in: The answer is A.<|im_end|>"),
    "gsm8k_qwen2.5_3b": ("How many has she?\nSolve it step by step. The last line is #### and the number.", "\n#### "),
    "sst2_qwen2.5_3b": ("\nIs the sentiment of this text negative or positive?<|im_end|>",),
}
OF_TEXTS = ("random", "text_sim", "random_pool", "text_sim_pool")
OF_IMAGES = ("image_sim", "image_text_sim", "mix", "image_sim_pool", "image_text_sim_pool")
DRAWN = ("random", "mix", "random_pool")
#: Keys that the recipes don't have and that small ones are told: sizes, where embeddings lie, and what a test says on
#: its screen.
ADDED = {
    "prepare": {"allow_other_counts"},
    "beams": {"embeddings_dir"},
    "sft": {"embeddings_dir", "num_train_epochs", "hidden_size", "use_cpu", "disable_tqdm"},
    "rollouts": {"embeddings_dir"},
    "grpo": {"embeddings_dir", "use_cpu", "disable_tqdm"},
    "evaluate": {"embeddings_dir", "order_probes"},
    "report": set(),
}


@dataclass
class Ran:
    """A folder whose stages have run: its recipes by stage number, the VLMs that were loaded, and where it ran."""

    name: str
    place: Path
    recipes: dict[str, dict]
    vlms: list = field(default_factory=list)

    def table(self, number: str, config: str, split: str, inside: str = "") -> list[dict]:
        folder = self.place / self.recipes[number]["output_dir"] / inside
        return list(datasets.load_dataset(str(folder), config, split=split))

    @property
    def results(self) -> dict:
        return json.loads((self.place / self.recipes["50"]["output_dir"] / "results.json").read_text())

    @property
    def examples(self) -> DataArguments:
        return DataArguments(dataset=str(self.place / self.recipes["00"]["output_dir"]))


def load_and_keep(load, kept, *args):
    kept.append(load(*args))
    return kept[-1]


#: `vqav2_flamingo_3b` differs from others by what they have, too: the dataset from one, the model from another.
SLOW = {"vqav2_flamingo_3b"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(one, id=one.name, marks=[pytest.mark.slow] * (one.name in SLOW)) for one in FOLDERS],
)
def ran(request, tmp_path_factory):
    recipes = {path.name[:2]: read(path) for path in sorted(request.param.glob("*.yaml"))}
    found = Ran(request.param.name, tmp_path_factory.mktemp("place"), recipes)
    (found.place / "recipes").symlink_to(ROOT / "recipes")
    furnish(found.place, recipes["00"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.place)
        patch.setattr(stage, "load_vlm", partial(load_and_keep, stage.load_vlm, found.vlms))
        for recipe in recipes.values():
            run(recipe)
    return found


def test_prompts_and_model_are_those_of_the_recipe(ran):
    assert len(ran.vlms) == 3 + ("30" in ran.recipes)
    pool = load_examples(ran.examples, "train")
    query = load_examples(ran.examples, ran.recipes["50"]["eval_split"])[0]
    for vlm in ran.vlms:
        assert type(vlm.model).__name__ == MODELS[ran.name.split("_", ran.name.startswith("coco") + 1)[-1]]
        text = vlm.family.prompt.whole([pool[0]], query).text
        where = [text.index(part) for part in PROMPTS[ran.name]]
        assert where == sorted(where)
        assert vlm.task.target(pool[0]) in text and not text.endswith(vlm.task.target(query))


def test_queries_to_learn_from_are_held_out_of_the_pool(ran):
    pool, held = (load_examples(ran.examples, split) for split in ("train", "holdout"))
    assert (len(pool), len(held)) == (SIZES["train"] - HOLDOUT, HOLDOUT)
    assert not set(pool["id"]) & set(held["id"])
    if ran.recipes["00"]["dataset"] in ("okvqa", "vqav2"):
        assert not set(pool["image_id"]) & set(held["image_id"])


def test_beams_are_of_the_queries_to_learn_from_and_of_the_first_test_queries(ran):
    pool = set(load_examples(ran.examples, "train")["id"])
    test_split = ran.recipes["50"]["eval_split"]
    asked = {"holdout": HOLDOUT, test_split: TEST}
    for number, split in (("10", "holdout"), ("11", test_split)):
        rows, ledger = (ran.table(number, config, split) for config in ("beams", "ledger"))
        assert [row["query_id"] for row in rows] == load_examples(ran.examples, split)["id"][: asked[split]]
        for row in rows:
            assert len(set(row["candidate_ids"])) == NUM_CANDIDATES and set(row["candidate_ids"]) <= pool
            assert [len(ids) for ids in row["demonstration_ids"]] == [2] * 5
            assert row["scores"] == sorted(row["scores"], reverse=True)
        # Zero-shot, every candidate, and every candidate but the first before each of five beams.
        assert len(ledger) == asked[split] * (1 + NUM_CANDIDATES + 5 * (NUM_CANDIDATES - 1))


def test_selectors_are_trained_on_the_held_out_queries(ran):
    for entry in ran.recipes["50"]["selectors"]:
        name, folder = entry.split("=")
        config = json.loads((ran.place / folder / "config.json").read_text())
        assert (config["num_candidates"], config["num_shots"], config["insertion"]) == (NUM_CANDIDATES, 2, "left")
        features = ["text"] if ran.name.endswith("qwen2.5_3b") else ["image", "text"]
        assert config["query_features"] == config["candidate_features"] == features
        assert ("rollouts" in config["trained_on"]) == (name in ("v3", "v4"))
        assert config["trained_on"]["recipe"]["query_splits"] == ["holdout"]
    if "30" in ran.recipes:
        rows = ran.table("30", "rollouts", "holdout")
        assert len(rows) == HOLDOUT
        assert {"beam", "greedy"} <= {source.split(":")[0] for row in rows for source in row["sources"]}


def test_every_method_answers_and_is_scored_by_the_metric_of_the_dataset(ran):
    recipe, results = ran.recipes["50"], ran.results
    assert results["metric"] == recipe["metric"] and results["num_queries"] == TEST
    assert [prefix["num_queries"] for prefix in results["prefixes"]] == [2, 3]
    selectors = [entry.split("=")[0] for entry in recipe["selectors"]]
    methods = [*OF_TEXTS, *(() if ran.name.endswith("qwen2.5_3b") else OF_IMAGES), *selectors]
    expected = {(method, shots) for method in methods for shots in (1, 2, 3, 4)}
    expected |= {("zero_shot", 0), ("oracle", 1), ("oracle", 2)}
    rows = ran.table("50", "predictions", recipe["eval_split"], "predictions")
    assert {(row["method"], row["shots"]) for row in rows} == expected
    assert len(rows) == TEST * sum(3 if method in DRAWN else 1 for method, _ in expected)
    # Scored again, from the answers alone.
    queries = load_examples(ran.examples, recipe["eval_split"]).select(range(TEST))
    task = make_task(TaskArguments(**{key: recipe.get(key) for key in ("task", "metric", "labels")}))
    task.use_references(queries)
    by_id = {query["id"]: query for query in queries}
    for row in rows:
        score = METRICS[recipe["metric"]].score(row["prediction"], by_id[row["query_id"]], task.document_frequencies)
        assert row["accuracy"] == pytest.approx(score)


def test_the_report_shows_published_figures_of_okvqa_alone(ran):
    report = ran.place / ran.recipes["60"]["output_dir"]
    table = (report / "comparison.csv").read_text()
    page = (report / "index.html").read_text()
    assert ran.recipes["60"]["title"] in page and "zero-shot" in page and "oracle" in page
    model = "OpenFlamingo-3B" if "flamingo" in ran.name else "Qwen2.5-VL-3B-Instruct"
    published = [line for line in table.splitlines() if line.startswith("published,")]
    assert bool(published) == ran.name.startswith("okvqa")
    assert all(line.split(",")[1] == model for line in published)
    assert ("these figures were not measured here" in page) == bool(published)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_all_stages_of_a_folder_say_the_same_and_what_the_papers_say(folder):
    recipes = {path.name[:2]: read(path) for path in folder.glob("*.yaml")}
    asking = [recipes[number] for number in ("10", "11", "30", "50") if number in recipes]
    for key in ("dataset", "pool_split", "task", "metric", "labels", "question_template", "answer_template", "vlm"):
        assert len({str(recipe.get(key)) for recipe in asking}) == 1, key
    for key in ("max_new_tokens", "dtype", "memory_mb", "max_batch_tokens", "num_threads"):
        assert len({recipe[key] for recipe in asking}) == 1, key
    for number in ("10", "11"):
        search = {key: recipes[number][key] for key in ("num_candidates", "beam_size", "num_shots", "insertion")}
        assert search == {"num_candidates": 64, "beam_size": 5, "num_shots": 2, "insertion": "left"}
    held = recipes["00"]["holdout"]
    assert recipes["00"]["num"] == {"holdout": held} and held in (900, 5500)
    train = {900: 800, 5500: 5000}[held]
    for recipe in (recipes[number] for number in ("20", "40") if number in recipes):
        assert (recipe["train_split"], recipe["eval_split"]) == (f"holdout[:{train}]", f"holdout[{train}:]")
    assert recipes["50"]["num_queries"] == [100, 200, recipes["11"]["num_queries"]]
    outputs = [recipe["output_dir"] for recipe in recipes.values()]
    assert len(set(outputs)) == len(outputs)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_evaluation_of_all_test_queries_is_made_as_the_readme_says(folder, tmp_path):
    readme = (ROOT / "recipes" / "README.md").read_text()
    (command,) = [line for line in readme.splitlines() if line.startswith("sed ")]
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "outputs").mkdir()
    name = next(word for word in command.split("/") if word.endswith("_3b"))
    subprocess.run(["bash", "-c", command.replace(name, folder.name)], check=True, cwd=tmp_path)
    (made,) = (tmp_path / "outputs").iterdir()
    arguments = evaluate.make_parser().parse_args_and_config(["--config", str(made)])[-1]
    assert arguments.num_queries is None and arguments.beams is None and "oracle" not in arguments.methods
    assert "selector" in arguments.methods and arguments.output_dir != read(folder / "50_evaluate.yaml")["output_dir"]


def commands(readme: Path) -> list[list[str]]:
    """What the lines of a page tell `leverplus prepare`."""
    text = readme.read_text().replace("\\\n", "")
    return [shlex.split(line)[2:] for line in text.splitlines() if line.strip().startswith("leverplus prepare ")]


@pytest.mark.parametrize("readme", PAGES, ids=lambda path: path.parent.name)
def test_what_a_page_prepares_is_what_the_recipes_read(readme, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in commands(readme):
        args = prepare.make_parser().parse_args_and_config(words)[-1]
        ours = [readme.parent] if readme.parent in FOLDERS else FOLDERS
        recipes = [read(folder / "00_prepare.yaml") for folder in ours]
        fitting = [recipe for recipe in recipes if recipe["output_dir"] == args.output_dir]
        assert fitting, words
        for recipe in fitting:
            assert (args.holdout, args.num, args.seed) == (recipe["holdout"], recipe["num"], recipe["seed"])
            # Of COCO the hub has other splits, which the page says.
            assert args.dataset == ("coco_2017" if recipe["dataset"] == "coco_karpathy" else recipe["dataset"])


def test_pages_tell_how_to_prepare():
    told = {readme.parent.name for readme in PAGES if commands(readme)}
    # Those of OpenFlamingo share their examples with others, but for captions.
    shared = {"okvqa_flamingo_3b", "vqav2_flamingo_3b"}
    assert told == {"recipes", *(folder.name for folder in FOLDERS)} - shared


@pytest.mark.slow
def test_two_samplers_and_three_selectors_make_one_table(tmp_path):
    """`experiment.sh` itself, each stage in a process of its own."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    furnish(tmp_path, read(ROOT / "recipes" / "okvqa_qwen2.5_vl_3b" / "00_prepare.yaml"))
    python = f"{sys.executable} {Path(__file__).with_name('small_recipes.py')}"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHON": python, "SEEDS": "0", "PYTHONPATH": paths}
    for words in ("random v2", "mix v0 v2 v4"):
        command = ["bash", "recipes/experiment.sh", "okvqa_qwen2.5_vl_3b", *words.split()]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    rows = (tmp_path / "outputs" / "okvqa_qwen2.5_vl_3b" / "report" / "comparison.csv").read_text().splitlines()
    own = [row.split(",") for row in rows if row.startswith("here,")]
    of_all = {(row[3], row[4]) for row in own if row[2] == str(TEST)}
    expected = {("v2", "random"), ("oracle", "random"), ("oracle", "mix")}
    assert expected | {(name, "mix") for name in ("v0", "v2", "v4")} <= of_all
    assert any(row.startswith("published,") for row in rows)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_is_made_smaller_is_the_size_alone(folder):
    for path in folder.glob("*.yaml"):
        recipe = read(path)
        small = smaller(recipe)
        assert {key for key in recipe if recipe[key] != small.get(key)} <= {
            *("accelerate_config", "num_threads", "dtype", "memory_mb", "max_batch_tokens", "unit_size", "num"),
            *("num_candidates", "holdout", "train_split", "eval_split", "num_queries", "max_new_tokens"),
        }
        assert small.keys() - recipe.keys() == ADDED[recipe["stage"]]
        # Splits are cut elsewhere, and are the same splits.
        for key in ("train_split", "eval_split"):
            assert str(small.get(key)).split("[")[0] == str(recipe.get(key)).split("[")[0]
        assert yaml.safe_load(yaml.safe_dump(small)) == small
