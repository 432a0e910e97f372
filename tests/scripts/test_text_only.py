# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Data without images: every default follows the data, so that no recipe names features or methods."""

import json

import datasets
import pytest
from paths import WORLD
from small_world import VLM, beam_arguments, write_examples

from leverplus_trl.evaluation.evaluation_arguments import EvaluationArguments
from leverplus_trl.evaluation.methods import METHODS, default_methods
from leverplus_trl.retrieval import SamplerArguments, usable_modalities
from leverplus_trl.rollouts.rollout_arguments import RolloutArguments
from leverplus_trl.scripts import beams, evaluate, rollouts, sft
from leverplus_trl.stage_arguments import HubArguments, ShardedStageArguments, StageArguments
from leverplus_trl.tasks import DataArguments, TaskArguments
from leverplus_trl.trainer import SelectorSFTConfig
from leverplus_trl.vlms import VLMArguments


TEXT_BASELINES = ["random", "text_sim", "random_pool", "text_sim_pool"]


@pytest.fixture(scope="module")
def outputs(world, embeddings_dir, tmp_path_factory):
    """Folders of beams, selector, rollouts and evaluation, made of questions without their images."""
    folder = tmp_path_factory.mktemp("text")
    sizes = {"pool": 40, "train": 8, "validation": 4, "test": 6}
    splits = {name: world[name].select(range(size)).remove_columns("image") for name, size in sizes.items()}
    files = write_examples(folder, splits)
    labels = sorted({answer for table in splits.values() for answer in table["answer"]})
    task = TaskArguments(task="text_classification", labels=labels, max_new_tokens=4)
    # Without the images many questions and answers are the same.
    data = DataArguments(dataset="parquet", data_files=files, pool_split="pool", on_overlap="allow")
    encoder = {"encoder": str(WORLD / "clip"), "embeddings_dir": embeddings_dir}
    asked = {"query_splits": ["train", "validation", "test"], "task": "text_classification", "labels": labels}
    beams.main(*beam_arguments(files, folder / "beams", on_overlap="allow", **encoder, **asked))
    training = SelectorSFTConfig(output_dir=str(folder / "sft"), num_train_epochs=1, use_cpu=True, report_to="none")
    learned = sft.SFTArguments(beams=str(folder / "beams"), embeddings_dir=embeddings_dir, hidden_size=32)
    sft.main(StageArguments(stage="sft"), data, learned, training)
    vlm = VLMArguments(vlm=VLM, max_batch_tokens=1024)
    made = {"beams": str(folder / "beams"), "embeddings_dir": embeddings_dir, "query_splits": ["train"]}
    counts = {"num_rollouts": 9, "num_beam_sequences": 2, "num_samples": 1}
    rolled = RolloutArguments(output_dir=str(folder / "rollouts"), **counts, **made)
    rollouts.main(ShardedStageArguments(stage="rollouts"), data, task, vlm, rolled, HubArguments())
    compared = EvaluationArguments(
        output_dir=str(folder / "evaluation"),
        selectors=[str(folder / "sft")],
        beams=str(folder / "beams"),
        shots=[1],
    )
    sampling = SamplerArguments(embeddings_dir=embeddings_dir)
    evaluate.main(ShardedStageArguments(stage="evaluate"), data, task, vlm, sampling, compared)
    return folder


def test_the_selector_reads_text(outputs):
    config = json.loads((outputs / "sft" / "config.json").read_text())
    assert config["query_features"] == ["text"] and config["candidate_features"] == ["text"]


def test_rollouts_compare_questions(outputs):
    table = datasets.load_dataset(str(outputs / "rollouts"), "rollouts", split="train")
    assert {source for row in table for source in row["sources"]} == {"beam", "text_sim", "random"}


def test_baselines_compare_questions_with_the_encoder_of_the_beams(outputs):
    recipe = json.loads((outputs / "evaluation" / "provenance.json").read_text())["recipe"]
    assert recipe["methods"] == ["zero_shot", *TEXT_BASELINES, "selector", "oracle"]
    assert recipe["encoder"] == str(WORLD / "clip")
    results = json.loads((outputs / "evaluation" / "results.json").read_text())
    assert {row["method"] for row in results["rows"]} == {*recipe["methods"]}


def test_an_encoder_embeds_only_what_every_example_has(world):
    clip, pool = str(WORLD / "clip"), world["pool"].select(range(3))
    one_without = pool.map(lambda row, place: {"image": None if place == 1 else row["image"]}, with_indices=True)
    assert usable_modalities(clip, None, pool) == ("image", "text", "answer")
    assert usable_modalities(clip, None, pool, one_without) == ("text", "answer")
    assert usable_modalities(clip, None, pool, one_without.select([0, 2])) == ("image", "text", "answer")


@pytest.mark.parametrize(
    ("modalities", "has_selectors", "has_beams", "expected"),
    [
        (("image", "text", "answer"), True, True, list(METHODS)),
        (("text", "answer"), True, False, ["zero_shot", *TEXT_BASELINES, "selector"]),
        ((), False, False, ["zero_shot", "random", "random_pool"]),
    ],
)
def test_default_methods_are_all_that_is_possible(modalities, has_selectors, has_beams, expected):
    assert default_methods(modalities, has_selectors, has_beams) == expected
