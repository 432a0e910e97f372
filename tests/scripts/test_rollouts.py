# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""The stage `rollouts` on a few examples of the embedded world, with its VLM and an untrained selector."""

import hashlib
import json
import math
import multiprocessing
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from paths import WORLD
from small_world import VLM, beam_arguments, write_examples

import leverplus_trl.rollouts.rollout_generation as rollout_generation
import leverplus_trl.scripts.rollouts as stage
from leverplus_trl.fields import keys_of
from leverplus_trl.provenance import model_revision
from leverplus_trl.retrieval import embed_examples
from leverplus_trl.rollouts import compute_rewards
from leverplus_trl.rollouts.rollout_arguments import RolloutArguments
from leverplus_trl.schema import ROLLOUTS
from leverplus_trl.scripts import beams as beams_stage
from leverplus_trl.selectors import PointerSelectorConfig, PointerSelectorModel, SelectorProcessor
from leverplus_trl.selectors.encoder_lora import copy_encoder
from leverplus_trl.stage_arguments import HubArguments, ShardedStageArguments
from leverplus_trl.tables import table_provenance, write_tables
from leverplus_trl.tasks import DataArguments, TaskArguments, make_task
from leverplus_trl.vlms import VLMArguments, load_vlm


CLIP = str(WORLD / "clip")
SPLITS = ("train", "validation")


def disagree(table):
    """The table with a second answer from every third annotator."""
    answers = table["answer"][:]
    other = [
        [own, own, answers[(row + 1) % len(answers)] if row % 3 else f" {own} "] for row, own in enumerate(answers)
    ]
    return (
        table.remove_columns("answers").add_column("answers", other).cast_column("answers", table.features["answers"])
    )


class Setting:
    """Examples, the beams of some queries, and a selector."""

    def __init__(self, folder, world, embeddings_dir):
        self.folder, self.embeddings_dir = folder, embeddings_dir
        tables = {"pool": world["pool"].select(range(16))}
        tables |= {
            split: disagree(world[split].select(range(count))) for split, count in (("train", 7), ("validation", 4))
        }
        self.tables, self.files = tables, write_examples(folder, tables)
        self.beams = folder / "beams"
        beams_stage.main(*beam_arguments(self.files, self.beams, query_splits=list(SPLITS)))
        self.selector = self.save_selector("selector")

    def save_selector(self, name, **values):
        torch.manual_seed(0)
        pool = embed_examples(self.tables["pool"], CLIP, embeddings_dir=self.embeddings_dir)
        widths = {"image_embed_dim": pool.image.shape[1], "text_embed_dim": pool.text.shape[1]}
        named = {"encoder": CLIP, "encoder_commit": model_revision(CLIP), "num_candidates": 6, "hidden_size": 16}
        config = PointerSelectorConfig(**{**widths, **named, **values})
        processor = SelectorProcessor(config.query_features, config.candidate_features)
        for part in (PointerSelectorModel(config), processor):
            part.save_pretrained(self.folder / name)
        return self.folder / name

    def arguments(self, output_dir, **changes):
        defaults = {
            ShardedStageArguments: {"stage": "rollouts", "num_threads": 1},
            DataArguments: {"dataset": "parquet", "data_files": self.files, "pool_split": "pool"},
            TaskArguments: {"task": "vqa", "metric": "exact_match", "max_new_tokens": 4},
            VLMArguments: {"vlm": VLM, "max_batch_tokens": 1024},
            RolloutArguments: {
                "output_dir": str(output_dir),
                "beams": str(self.beams),
                "selector": str(self.selector),
                "num_rollouts": 9,
                "num_beam_sequences": 2,
                "num_samples": 2,
                "unit_size": 2,
                "embeddings_dir": self.embeddings_dir,
            },
            HubArguments: {},
        }
        names = {kind: {one.name for one in keys_of(kind)} for kind in defaults}
        unknown = set(changes) - {name for own in names.values() for name in own}
        assert not unknown, unknown
        return tuple(
            kind(**{**values, **{name: value for name, value in changes.items() if name in names[kind]}})
            for kind, values in defaults.items()
        )


@pytest.fixture(scope="module")
def setting(world, embeddings_dir, tmp_path_factory):
    return Setting(tmp_path_factory.mktemp("rollouts"), world, embeddings_dir)


@pytest.fixture(scope="module")
def rolled(setting):
    """The output of an undisturbed run by one process."""
    stage.main(*setting.arguments(setting.folder / "one"))
    return setting.folder / "one"


def read(folder, split="train"):
    return datasets.load_dataset(str(folder), "rollouts", split=split)


def hashes(folder):
    files = {split: next((folder / "data").glob(f"rollouts-{split}-*.parquet")) for split in SPLITS}
    files["summary"] = folder / "summary.json"
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


@pytest.fixture
def calls(monkeypatch):
    """Counts what the VLM is asked, beside the preflight."""
    counted = Counter()

    class Counting:
        def __init__(self, vlm):
            self.vlm, self.task, self.unit = vlm, vlm.task, vlm.unit

        def generate(self, requests):
            counted["answered"] += len(requests)
            return self.vlm.generate(requests)

        def answer_logprobs(self, requests):
            counted["scored"] += len(requests)
            return self.vlm.answer_logprobs(requests)

    original = rollout_generation.generate_rollouts

    def counting(folder, queries, pool, sources, vlm, *rest):
        return original(folder, queries, pool, sources, Counting(vlm), *rest)

    monkeypatch.setattr(stage, "generate_rollouts", counting)
    return counted


def test_the_table_loads_with_plain_datasets(rolled, setting):
    for split, count in (("train", 7), ("validation", 4)):
        table = read(rolled, split)
        assert table.features == ROLLOUTS and table["query_id"][:] == setting.tables[split]["id"][:]
        assert len(table) == count
        searched = datasets.load_dataset(str(setting.beams), "beams", split=split)
        assert table["candidate_ids"][:] == searched["candidate_ids"][:]
        assert table["zero_shot_score"][:] == searched["zero_shot_score"][:]
        for row in table:
            sequences = [tuple(ids) for ids in row["demonstration_ids"]]
            assert len(sequences) == len(set(sequences)) == 9 and all(len(set(ids)) == 2 for ids in sequences)
            assert {name for ids in sequences for name in ids} <= set(row["candidate_ids"])
            for source, logprob in zip(row["sources"], row["behaviour_logprobs"], strict=True):
                assert (logprob is not None) == (source.startswith("sample") or source == "random")


def test_measures_are_what_the_vlm_says_of_each_sequence_alone(rolled, setting):
    task_args, vlm_args = setting.arguments("x")[2:4]
    vlm = load_vlm(vlm_args, make_task(task_args))
    pool = {row["id"]: row for row in setting.tables["pool"]}
    for row, query in zip(list(read(rolled))[:3], setting.tables["train"], strict=False):
        for place in (0, 3, 8):
            demonstrations = tuple(pool[name] for name in row["demonstration_ids"][place])
            generation = vlm.generate([stage_request(demonstrations, query)])[0]
            assert row["generations"][place] == generation
            assert row["accuracies"][place] == vlm.task.accuracy(vlm.task.postprocess(generation), query)
            texts = {answer.strip() for answer in query["answers"]}
            logprobs = {
                text: vlm.answer_logprobs([stage_request(demonstrations, {**query, "answer": text})])[0].logprob
                for text in texts
            }
            assert row["answer_logprobs"][place] == pytest.approx(logprobs[query["answer"]], abs=1e-4)
            expected = min(1.0, sum(map(math.exp, logprobs.values())))
            assert row["gt_probs"][place] == pytest.approx(expected, abs=1e-4)


def stage_request(demonstrations, query):
    return rollout_generation.Request(demonstrations, query)


def test_info_scores_of_the_beams_come_out_as_rewards(rolled, setting):
    answers = dict(zip(setting.tables["train"]["id"], setting.tables["train"]["answers"], strict=True))
    table = read(rolled)
    rewards = compute_rewards(table, answers, ["info_score"])
    searched = {row["query_id"]: row for row in datasets.load_dataset(str(setting.beams), "beams", split="train")}
    compared = 0
    for row, values in zip(table, rewards, strict=True):
        beams = searched[row["query_id"]]
        scores = dict(zip(map(tuple, beams["demonstration_ids"]), beams["scores"], strict=True))
        for ids, value in zip(row["demonstration_ids"], values, strict=True):
            if tuple(ids) in scores:
                assert value == scores[tuple(ids)]  # taken from the ledger: equal to the last bit
                compared += 1
    assert compared == 2 * 7


def test_the_summary_is_that_of_the_table(rolled):
    summary = json.loads((rolled / "summary.json").read_text())
    for split in SPLITS:
        table, found = read(rolled, split), summary[split]
        assert found["num_groups"] == len(table) and found["num_sequences"] == 9 * len(table)
        greedy = [row["accuracies"][row["sources"].index("greedy")] for row in table]
        best = [max(row["accuracies"]) for row in table]
        assert found["greedy_accuracy"] == pytest.approx(sum(greedy) / len(greedy))
        assert found["best_accuracy"] == pytest.approx(sum(best) / len(best))
        assert found["head_room"] == pytest.approx(found["best_accuracy"] - found["greedy_accuracy"])
        spread = sum(len(set(row["accuracies"])) > 1 for row in table)
        assert found["num_groups_with_accuracy_spread"] == spread
        assert set(found["sources"]) >= {"greedy", "beam", "sample_1.0", "sample_1.3", "image_text_sim"}
    log = (rolled / "run.log").read_text()
    assert "Queries whose sequences differ in accuracy" in log and "the head room is" in log


def test_what_made_the_table_stands_beside_it(rolled):
    provenance = table_provenance(str(rolled))
    assert provenance == json.loads((rolled / "provenance.json").read_text())
    assert provenance["stage"] == "rollouts" and provenance["recipe"]["num_shots"] == 2
    assert provenance["facts"]["score"] == "prob" and provenance["facts"]["selector_commit"]


def test_two_processes_give_the_bytes_of_one(setting, rolled, tmp_path):
    recipe = {}
    for arguments in setting.arguments(tmp_path / "two"):
        recipe |= {name: value for name, value in vars(arguments).items() if value is not None}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"stage": "rollouts", **recipe}, sort_keys=False))
    command = ["leverplus_trl.cli", "rollouts", "--config", str(file), "--accelerate_config", "ddp_cpu"]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "on 2 processes" in done.stderr
    assert hashes(tmp_path / "two") == hashes(rolled)


def _roll(arguments, started):
    """Runs in a child: rolls out, and writes down every unit that is begun."""
    answer_unit = rollout_generation.answer_unit

    def note(queries, *rest):
        with open(started, "a") as handle:
            handle.write(queries[0]["id"] + "\n")
        return answer_unit(queries, *rest)

    rollout_generation.answer_unit = note
    stage.main(*arguments)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(setting, rolled, tmp_path):
    generator = random.Random(0)
    context = multiprocessing.get_context("fork")  # children share what is imported
    folder, started = tmp_path / "killed", tmp_path / "started"
    kills = 0
    for target in (0, 1, 3, 5):  # units done before the kill, of 6
        child = context.Process(target=_roll, args=(setting.arguments(folder), started))
        child.start()
        while child.is_alive() and len(list((folder / "units").glob("*.parquet"))) < target:
            time.sleep(0.002)
        time.sleep(generator.random() * 0.02)
        child.kill()
        child.join()
        kills += child.exitcode == -9
        assert not (folder / "README.md").exists()
    assert kills == 4
    child = context.Process(target=_roll, args=(setting.arguments(folder), started))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert hashes(folder) == hashes(rolled)
    begun = Counter(started.read_text().split())
    assert len(begun) == 6 and sum(begun.values()) <= 6 + kills
    assert not (folder / "units").exists()


def test_a_finished_run_is_not_done_again_and_another_is_refused(setting, rolled, monkeypatch):
    monkeypatch.setattr("leverplus_trl.stage.load_vlm", lambda *_: pytest.fail("the VLM was loaded"))
    before = hashes(rolled)
    stage.main(*setting.arguments(rolled))
    assert hashes(rolled) == before
    with pytest.raises(ValueError, match=r"another recipe \(rollout_seed: 0 there, 1 here\)"):
        stage.main(*setting.arguments(rolled, rollout_seed=1))


def test_a_dry_run_counts_and_touches_nothing(setting, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("leverplus_trl.stage.load_vlm", lambda *_: pytest.fail("the VLM was loaded"))
    with caplog.at_level("INFO", logger="leverplus_trl"):
        stage.main(*setting.arguments(tmp_path / "dry", dry_run=True))
    answers = [{a.strip() for a in row["answers"]} for split in SPLITS for row in setting.tables[split]]
    most = sum(1 + 9 * len(texts) for texts in answers)
    assert f"at most 99 prompts to answer and {most} answers to score" in caplog.text
    assert not (tmp_path / "dry").exists()


def test_the_ledger_spares_scores(setting, rolled, tmp_path, calls):
    one = {"query_splits": ["train"], "num_queries": 3}
    stage.main(*setting.arguments(tmp_path / "with", **one))
    with_ledger = dict(calls)
    ledger = datasets.load_dataset(str(setting.beams), "ledger", split="train")
    known = {(row["query_id"], tuple(row["demonstration_ids"])) for row in ledger}
    shared = total = 0
    for row, query in zip(read(tmp_path / "with"), setting.tables["train"], strict=False):
        sequences = [(row["query_id"], tuple(ids)) for ids in row["demonstration_ids"]]
        shared += sum(sequence in known for sequence in sequences)
        total += 9 * len({answer.strip() for answer in query["answers"]})
    assert shared > 0 and with_ledger == {"answered": 27, "scored": total - shared}
    log = (tmp_path / "with" / "run.log").read_text()
    assert f"27 answered and {total - shared} answers scored by the VLM; {shared} log-probabilities came from" in log


def test_the_ledger_of_another_prompt_is_left_alone(setting, tmp_path, calls, caplog):
    caplog.set_level("INFO", logger="leverplus_trl")
    one = {"query_splits": ["train"], "num_queries": 2, "question_template": "Q {question}"}
    stage.main(*setting.arguments(tmp_path / "other", **one))
    assert "question_template: None there, 'Q {question}' here): nothing is taken from it" in caplog.text
    texts = [len({answer.strip() for answer in row["answers"]}) for row in list(setting.tables["train"])[:2]]
    assert calls == {"answered": 18, "scored": 9 * sum(texts) + 2}  # the zero-shot prompts, too
    stage.main(*setting.arguments(tmp_path / "dry", dry_run=True, **one))  # the price of a run that knows nothing yet
    rows = {name: int(count) for name, count in re.findall(r"prompts to (\w+) +(\d+)\n", caplog.text)}
    assert rows == {"score": calls["scored"], "answer": calls["answered"]}
    searched = datasets.load_dataset(str(setting.beams), "beams", split="train")
    assert read(tmp_path / "other")["zero_shot_score"][:] != searched["zero_shot_score"][:2]


def test_scores_of_other_prompts_are_never_mixed(setting, rolled, tmp_path, monkeypatch):
    """A template that writes the date, or a tokenizer that splits otherwise: nothing in the recipe tells of it."""
    monkeypatch.setattr("leverplus_trl.stage.prompt_hash", lambda *_: "another")
    with pytest.raises(
        ValueError, match=r"holds the output of another recipe \(prompt_hash: '\w+' there, 'another' here\)"
    ):
        stage.main(*setting.arguments(rolled))
    with pytest.raises(
        ValueError, match=r"scored with other prompts \(prompt_hash: '\w+' there, 'another' here\), though"
    ):
        stage.main(*setting.arguments(tmp_path / "new"))
    with pytest.raises(ValueError, match=r"says nothing about this job \(prompt_hash: '\w+' there, 'another' here\)"):
        stage.main(*setting.arguments(tmp_path / "more", previous_rollouts=str(rolled)))


def test_earlier_rollouts_are_taken_over(setting, rolled, tmp_path, calls):
    again = {"previous_rollouts": str(rolled), "num_rollouts": 12, "num_queries": 5}
    stage.main(*setting.arguments(tmp_path / "more", **again))
    new = 0
    for split in SPLITS:
        before = {row["query_id"]: row for row in read(rolled, split)}
        for row in read(tmp_path / "more", split):
            old = before[row["query_id"]]
            held = {tuple(ids): place for place, ids in enumerate(old["demonstration_ids"])}
            for place, ids in enumerate(map(tuple, row["demonstration_ids"])):
                new += ids not in held
                if ids in held:
                    for name in ("generations", "accuracies", "gt_probs", "relevances", "answer_logprobs"):
                        assert row[name][place] == old[name][held[ids]]
    assert calls["answered"] == new == 3 * (5 + 4)  # three more random ones each
    calls.clear()
    stage.main(*setting.arguments(tmp_path / "same", previous_rollouts=str(rolled)))
    assert calls["answered"] == calls["scored"] == 0
    assert hashes(tmp_path / "same") == hashes(rolled)


def test_without_a_selector(setting, tmp_path, caplog):
    settings = {"selector": None, "similarities": [], "query_splits": ["validation"]}
    with caplog.at_level("INFO", logger="leverplus_trl"):
        stage.main(*setting.arguments(tmp_path / "out", **settings))
    table = read(tmp_path / "out", "validation")
    assert {source for sources in table["sources"] for source in sources} == {"beam", "random"}
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["validation"]["head_room"] is None
    assert "Without a selector" in caplog.text


def test_a_selector_that_can_stop_is_answered_at_every_length(setting, tmp_path):
    selector = setting.save_selector("stopping", stop=True)
    one = {"selector": str(selector), "query_splits": ["train"], "num_queries": 3, "num_rollouts": 12}
    stage.main(*setting.arguments(tmp_path / "out", **one))
    for row in read(tmp_path / "out"):
        lengths = Counter(map(len, row["demonstration_ids"]))
        assert lengths[0] == 1 and lengths[1] >= 2 and lengths[2] >= 2 and sum(lengths.values()) == 12
        zero = row["demonstration_ids"].index([])
        probability = math.exp(row["answer_logprobs"][zero] / row["num_answer_tokens"][zero])
        assert probability == pytest.approx(row["zero_shot_score"])


@pytest.fixture
def refuses(setting, tmp_path, monkeypatch):
    """Asserts that the stage refuses something before the VLM is loaded."""
    monkeypatch.setattr("leverplus_trl.stage.load_vlm", lambda *_: pytest.fail("the VLM was loaded"))

    def check(message, **changes):
        with pytest.raises(ValueError, match=message):
            stage.main(*setting.arguments(tmp_path / "out", **changes))

    return check


def test_beams_of_another_pool_are_refused(refuses, setting, world, tmp_path):
    tables = {**setting.tables, "pool": world["pool"].select(range(8, 24))}
    files = write_examples(tmp_path, tables)
    refuses(r"The candidate 'pool-000\d' of the beams .* is not in the pool .*Name the dataset", data_files=files)


def test_a_query_without_beams_is_named(refuses, setting, world, tmp_path):
    files = write_examples(tmp_path, {**setting.tables, "train": world["train"].select(range(9))})
    refuses("holds no beams for 2 of 9 queries of 'train', e.g. 'train-0007'", data_files=files)


def test_a_query_without_answers_is_named(refuses, setting, tmp_path):
    train = setting.tables["train"]
    blank = [[" "] if row == 3 else own for row, own in enumerate(train["answers"])]
    train = (
        train.remove_columns("answers").add_column("answers", blank).cast_column("answers", train.features["answers"])
    )
    files = write_examples(tmp_path, {**setting.tables, "train": train})
    refuses(
        "1 of 7 examples of split 'train' can't be used: 'train-0003': all its `answers` are empty", data_files=files
    )


def test_splits_that_the_beams_lack_are_refused(refuses, setting, world, tmp_path):
    files = write_examples(tmp_path, {**setting.tables, "test": world["test"].select(range(3))})
    refuses("'test', but the beams .* have the splits train, validation", data_files=files, query_splits=["test"])


def test_longer_sequences_than_there_can_be_are_refused(refuses):
    refuses("num_shots is 3, but the beams .* hold sequences of at most 2.*num_beam_sequences: 0", num_shots=3)
    refuses("num_shots is 7, but query 'train-0000' has 6 candidates", num_shots=7, num_beam_sequences=0)


def test_a_selector_for_another_encoder_is_refused(refuses, setting):
    path = setting.save_selector("other", encoder_commit="0123456789abcdef")
    refuses(r"\(\w+\) is not .* was trained with \(0123456789abcdef, .* take a selector", selector=str(path))
    path = setting.save_selector("lost", encoder="no/where")
    refuses("The encoder 'no/where' is not to be found", selector=str(path))


def test_the_copy_of_an_encoder_is_found_where_the_original_is_gone(setting):
    path = setting.save_selector("copied", encoder="no/where")
    commit = copy_encoder(CLIP, None, path)
    config = PointerSelectorConfig.from_pretrained(path)
    config.encoder_commit = commit
    arguments = RolloutArguments(beams="unused", output_dir="unused", selector=str(path))
    found = stage.encoder_of(arguments, config, {})
    assert Path(found.name) == path / "encoder" and found.commit == commit


def test_an_unknown_selector_is_refused(refuses, setting):
    refuses("There is no selector '.*nowhere'", selector=str(setting.folder / "nowhere"))
    refuses("is a 'qwen2_5_vl.*' model, not a selector", selector=VLM)


def test_similarities_without_an_encoder_are_refused(refuses):
    refuses("neither the recipe nor selector nor beams name an encoder", selector=None, similarities=["text_sim"])


def test_tables_of_another_stage_are_refused(refuses, setting, rolled):
    refuses("was written by the stage 'rollouts'; expected what the stage 'beams' writes", beams=str(rolled))
    refuses("was written by the stage 'beams'", previous_rollouts=str(setting.beams))


def test_earlier_rollouts_of_something_else_are_refused(refuses, rolled, setting):
    refuses(
        "says nothing about this job .*max_new_tokens: 4 there, 5 here",
        previous_rollouts=str(rolled),
        max_new_tokens=5,
    )
    other = setting.folder / "other_vlm"
    provenance = json.loads((rolled / "provenance.json").read_text())
    provenance["facts"]["vlm_commit"] = "0123456789abcdef"
    write_tables(other, {"rollouts": {"train": read(rolled)}}, "Rollouts", "", provenance)
    refuses("vlm_commit: '0123456789abcdef' there", previous_rollouts=str(other))


def test_a_recipe_of_another_stage_is_refused(setting, tmp_path):
    with pytest.raises(ValueError, match="`stage: sft` and was given to the stage 'rollouts'"):
        stage.main(*setting.arguments(tmp_path, stage="sft"))
