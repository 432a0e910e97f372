# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The stage `beams` with `score: metric`, on the embedded world, and what reads its tables."""

import json

import datasets
import pytest
from small_world import beam_arguments, write_examples

import leverplus_trl.beams.beam_generation as beam_generation
import leverplus_trl.scripts.beams as stage
import leverplus_trl.scripts.rollouts as rollouts_stage
import leverplus_trl.vlms.dry_run as dry_run
from leverplus_trl.beams import num_scored_sequences
from leverplus_trl.evaluation.methods import oracle
from leverplus_trl.metrics.cider import cider, document_frequencies
from leverplus_trl.rollouts.rewards import compute_rewards
from leverplus_trl.rollouts.rollout_arguments import RolloutArguments
from leverplus_trl.stage_arguments import ShardedStageArguments
from leverplus_trl.tables import table_provenance
from leverplus_trl.trainer import scored_prefixes
from leverplus_trl.vlms import Request


SIZES = {"pool": 12, "train": 6, "test": 3}


@pytest.fixture(scope="module")
def data_files(world, tmp_path_factory):
    tables = {name: world[name].select(range(count)) for name, count in SIZES.items()}
    return write_examples(tmp_path_factory.mktemp("examples"), tables)


@pytest.fixture(scope="module")
def searched(data_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("beams") / "one"
    stage.main(*beam_arguments(data_files, folder, score="metric"))
    return folder


def table(folder, config, split="train"):
    return datasets.load_dataset(str(folder), config, split=split)


def worth_by_query(folder):
    worth = {}
    for row in table(folder, "ledger"):
        worth.setdefault(row["query_id"], {})[tuple(row["demonstration_ids"])] = row["accuracy"]
    return worth


def test_the_ledger_holds_the_metric_of_what_the_vlm_says(searched, world, concept_vlm):
    pool = {example["id"]: example for example in world["pool"].select(range(SIZES["pool"]))}
    queries = {example["id"]: example for example in world["train"].select(range(SIZES["train"]))}
    ledger = table(searched, "ledger")
    assert len(ledger) == SIZES["train"] * num_scored_sequences(6, 2, 2)
    for row in ledger:
        query = queries[row["query_id"]]
        said = concept_vlm.generate([Request(tuple(pool[name] for name in row["demonstration_ids"]), query)])[0]
        assert row["accuracy"] == concept_vlm.task.accuracy(concept_vlm.task.postprocess(said), query)
        assert row["answer_logprob"] < 0.0
    assert set(ledger["accuracy"]) == {0.0, 1.0}


def test_beams_are_ranked_by_it(searched):
    worth = worth_by_query(searched)
    for row in table(searched, "beams"):
        own = worth[row["query_id"]]
        assert row["zero_shot_score"] == own[()]
        pairs = sorted((value - own[()] for ids, value in own.items() if len(ids) == 2), reverse=True)
        assert row["scores"] == pairs[:2] == [steps[-1] for steps in row["step_scores"]]
    assert any(row["scores"][0] == 1.0 for row in table(searched, "beams"))


def test_the_analysis_stands_on_the_scale_and_says_so(searched):
    split = json.loads((searched / "analysis.json").read_text())["splits"]["train"]
    worth = worth_by_query(searched)
    assert split["scale"] == "metric"
    assert split["zero_shot"] == pytest.approx(sum(own[()] for own in worth.values()) / len(worth), rel=1e-5)
    best = [max(value for ids, value in own.items() if len(ids) == 1) - own[()] for own in worth.values()]
    assert split["steps"][0]["best"] == pytest.approx(sum(best) / len(best), rel=1e-5)
    assert "values of the task's metric of the generated answer" in (searched / "run.log").read_text()


def test_selectors_and_the_oracle_read_that_scale(searched):
    beams, ledger, worth = table(searched, "beams"), table(searched, "ledger"), worth_by_query(searched)
    scored = scored_prefixes(beams, ledger, "left", "metric")
    stopping = scored_prefixes(beams, ledger, "left", "metric", stop=True)
    for row, query_id in enumerate(beams["query_id"]):
        own = worth[query_id]
        expected = [own[name,] - own[()] for name in beams[row]["candidate_ids"]]
        assert scored.prefix_scores[row, 0].tolist() == expected
        # ending at once gains nothing, and a pick is worth the best that comes of it
        assert stopping.prefix_scores[row, 0, -1] == 0.0
        assert stopping.prefix_scores[row, 0, :-1].max() == max(value - own[()] for ids, value in own.items() if ids)
        chosen = oracle(ledger, [query_id], 2, "metric")[0]
        assert own[tuple(chosen)] == max(value for ids, value in own.items() if len(ids) == 2)


def test_rollouts_and_their_rewards_stand_on_that_scale(searched, data_files, world, tmp_path):
    (_, data_args, task_args, vlm_args, _, _, hub_args) = beam_arguments(data_files, tmp_path)
    args = RolloutArguments(
        beams=str(searched),
        output_dir=str(tmp_path / "rollouts"),
        query_splits=["train"],
        num_shots=1,
        num_rollouts=6,
        num_beam_sequences=3,
        similarities=[],
    )
    rollouts_stage.main(
        ShardedStageArguments(stage="rollouts", num_threads=1), data_args, task_args, vlm_args, args, hub_args
    )
    rollouts, worth = table(tmp_path / "rollouts", "rollouts"), worth_by_query(searched)
    answers = dict(zip(world["train"]["id"], world["train"]["answers"], strict=True))
    rewards = compute_rewards(rollouts, answers, ["info_score"], score="metric")
    for row, found in zip(rollouts, rewards, strict=True):
        own = worth[row["query_id"]]
        assert row["zero_shot_score"] == own[()] and len(row["demonstration_ids"]) == 6  # every candidate
        assert found.tolist() == [own[tuple(ids)] - own[()] for ids in row["demonstration_ids"]]
        # what the search only passed through is ranked on its scale
        proposed = [tuple(ids) for ids in row["demonstration_ids"][:3]]
        assert row["sources"][:3] == ["beam"] * 3
        alone = sorted((value for ids, value in own.items() if len(ids) == 1), reverse=True)
        assert [own[ids] for ids in proposed] == alone[:3]


def test_a_ledger_of_another_scale_is_refused(searched):
    beams, ledger = table(searched, "beams"), table(searched, "ledger")
    silent = ledger.remove_columns("accuracy").add_column("accuracy", [None] * len(ledger))
    with pytest.raises(ValueError, match="Search beams with `score: metric`"):
        scored_prefixes(beams, silent, "left", "metric")


def test_a_search_that_breaks_off_goes_on_to_the_same_bytes(data_files, searched, tmp_path, monkeypatch):
    search_unit, done = beam_generation.search_unit, []

    def breaks(queries, *rest):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(queries[0]["id"])
        return search_unit(queries, *rest)

    arguments = beam_arguments(data_files, tmp_path / "broken", score="metric")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(beam_generation, "search_unit", breaks)
        stage.main(*arguments)
    assert len(list((tmp_path / "broken" / "units").glob("*.parquet"))) == 2
    stage.main(*arguments)
    names = sorted(path.name for path in (searched / "data").iterdir())  # their content is in their names
    assert sorted(path.name for path in (tmp_path / "broken" / "data").iterdir()) == names


def test_cider_counts_over_all_examples_of_the_query_splits(data_files, world, concept_vlm, tmp_path):
    changes = {"task": "captioning", "metric": "cider", "score": "metric", "num_queries": 1, "num_shots": 1}
    stage.main(*beam_arguments(data_files, tmp_path / "out", **changes))
    queries = {name: world[name].select(range(SIZES[name])) for name in ("train", "test")}
    frequencies = document_frequencies(answers for split in queries.values() for answers in split["answers"])
    pool = {example["id"]: example for example in world["pool"].select(range(SIZES["pool"]))}
    ledger = table(tmp_path / "out", "ledger")
    for row in ledger:
        request = Request(tuple(pool[name] for name in row["demonstration_ids"]), queries["train"][0])
        said = concept_vlm.task.postprocess(concept_vlm.generate([request])[0])
        assert row["accuracy"] == cider(said, queries["train"][0]["answers"], frequencies)
    assert max(ledger["accuracy"]) > 1.0 and len(set(ledger["query_id"])) == 1
    facts = table_provenance(str(tmp_path / "out"))["facts"]
    assert set(facts["reference_hashes"]) == {"train", "test"}


def test_a_dry_run_counts_what_is_generated(data_files, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dry_run, "SECONDS", 0.0)
    with caplog.at_level("INFO", logger="leverplus_trl"):
        stage.main(*beam_arguments(data_files, tmp_path / "dry", score="metric", dry_run=True))
    count = num_scored_sequences(6, 2, 2) * (SIZES["train"] + SIZES["test"])
    assert f"{count} in all, each of which is also answered" in caplog.text
    rows = {line.split("  ")[1]: line.split()[-1] for line in caplog.text.splitlines() if line.startswith("  prompts")}
    assert rows == {"prompts to score": str(count), "prompts to answer": str(count)}
    assert not (tmp_path / "dry").exists()
