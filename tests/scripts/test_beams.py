# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import hashlib
import io
import json
import multiprocessing
import random
import re
import subprocess
import sys
import time
from collections import Counter

import datasets
import pytest
import yaml
from datasets import Dataset, Image
from PIL import Image as PILImage
from small_world import beam_arguments, write_examples

import leverplus_trl.beams.beam_generation as beam_generation
import leverplus_trl.scripts.beams as stage
from leverplus_trl.beams import ScoredPrompt, info_score, num_scored_sequences
from leverplus_trl.schema import BEAMS, LEDGER
from leverplus_trl.tables import table_provenance


TABLES = [(config, split) for config in ("beams", "ledger") for split in ("train", "test")]


@pytest.fixture(scope="module")
def data_files(world, tmp_path_factory):
    splits = {"pool": 16, "train": 12, "test": 5}
    tables = {name: world[name].select(range(count)) for name, count in splits.items()}
    return write_examples(tmp_path_factory.mktemp("examples"), tables)


@pytest.fixture(scope="module")
def searched(data_files, tmp_path_factory):
    """The output of an undisturbed search by one process."""
    folder = tmp_path_factory.mktemp("beams") / "one"
    stage.main(*beam_arguments(data_files, folder))
    return folder


def hashes(folder):
    files = {table: next((folder / "data").glob("{}-{}-*.parquet".format(*table))) for table in TABLES}
    return {table: hashlib.sha256(file.read_bytes()).hexdigest() for table, file in files.items()}


def test_both_tables_load_with_plain_datasets(searched):
    beams = datasets.load_dataset(str(searched), "beams")
    ledger = datasets.load_dataset(str(searched), "ledger")
    assert beams["train"].features == BEAMS and ledger["train"].features == LEDGER
    assert {split: len(table) for split, table in beams.items()} == {"train": 12, "test": 5}
    per_query = num_scored_sequences(num_candidates=6, num_shots=2, beam_size=2)
    assert {split: len(table) for split, table in ledger.items()} == {"train": 12 * per_query, "test": 5 * per_query}


def test_the_ledger_holds_every_scored_sequence_once_and_explains_the_beams(searched):
    beams = datasets.load_dataset(str(searched), "beams", split="train")
    ledger = datasets.load_dataset(str(searched), "ledger", split="train")
    scored = {(row["query_id"], tuple(row["demonstration_ids"])): row for row in ledger}
    assert len(scored) == len(ledger)
    for row in beams:

        def score(ids, query_id=row["query_id"]):
            return info_score(ScoredPrompt.of(scored[query_id, tuple(ids)]), ScoredPrompt.of(scored[query_id, ()]))

        pairs = [ids for query_id, ids in scored if query_id == row["query_id"] and len(ids) == 2]
        assert row["scores"] == sorted((score(ids) for ids in pairs), reverse=True)[:2]
        for ids, value, steps in zip(row["demonstration_ids"], row["scores"], row["step_scores"], strict=True):
            assert set(ids) <= set(row["candidate_ids"]) and row["query_id"] not in ids
            # Left insertion: the first choice stands next to the query.
            assert steps == [score(ids[1:]), score(ids)] and value == steps[-1]


def test_what_made_the_tables_stands_beside_them(searched):
    provenance = table_provenance(str(searched))
    assert provenance == json.loads((searched / "provenance.json").read_text())
    assert provenance["recipe"]["beam_size"] == 2 and provenance["facts"]["vlm_commit"]
    assert yaml.safe_load((searched / "recipe.yaml").read_text())["sampler"] == "random"
    assert "Preflight passed" in (searched / "run.log").read_text()


def test_two_processes_give_the_bytes_of_one(data_files, searched, tmp_path):
    recipe = {}
    for arguments in beam_arguments(data_files, tmp_path / "two"):
        recipe |= {name: value for name, value in vars(arguments).items() if value is not None}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"stage": "beams", **recipe}, sort_keys=False))
    command = ["leverplus_trl.cli", "beams", "--config", str(file), "--accelerate_config", "ddp_cpu"]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "on 2 processes" in done.stderr  # the world's size, asked of the processes themselves
    assert hashes(tmp_path / "two") == hashes(searched)


def _search(arguments, started):
    """Runs in a child: searches, and writes down every unit that is begun."""
    search_unit = beam_generation.search_unit

    def note(queries, *rest):
        with open(started, "a") as handle:
            handle.write(queries[0]["id"] + "\n")
        return search_unit(queries, *rest)

    beam_generation.search_unit = note
    stage.main(*arguments)


def test_a_search_that_is_killed_again_and_again_ends_with_the_same_bytes(data_files, searched, tmp_path):
    generator = random.Random(0)
    context = multiprocessing.get_context("fork")  # children share what is imported
    folder, started = tmp_path / "killed", tmp_path / "started"
    kills = 0
    for target in sorted(generator.sample(range(6), 5)):  # units done before the kill, of 9
        child = context.Process(target=_search, args=(beam_arguments(data_files, folder), started))
        child.start()
        while child.is_alive() and len(list((folder / "units").glob("*.parquet"))) < target:
            time.sleep(0.002)
        time.sleep(generator.random() * 0.05)
        child.kill()
        child.join()
        kills += child.exitcode == -9
        assert not (folder / "README.md").exists()
    assert kills == 5
    child = context.Process(target=_search, args=(beam_arguments(data_files, folder), started))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert hashes(folder) == hashes(searched)
    begun = Counter(started.read_text().split())
    assert len(begun) == 9 and sum(begun.values()) <= 9 + kills  # only the unit in flight is ever done again
    assert not (folder / "units").exists()


def test_a_finished_search_is_not_run_again(data_files, searched, monkeypatch):
    monkeypatch.setattr("leverplus_trl.stage.load_vlm", lambda *_: pytest.fail("the VLM was loaded"))
    before = hashes(searched)
    stage.main(*beam_arguments(data_files, searched))
    assert hashes(searched) == before


def test_another_recipe_is_refused_and_nothing_is_mixed(data_files, searched, monkeypatch):
    monkeypatch.setattr("leverplus_trl.stage.load_vlm", lambda *_: pytest.fail("the VLM was loaded"))
    with pytest.raises(ValueError, match=r"another recipe \(beam_size: 2 there, 3 here\)"):
        stage.main(*beam_arguments(data_files, searched, beam_size=3))
    with pytest.raises(ValueError, match=r"another recipe \(repetition_penalty: 1.0 there, 1.2 here\)"):
        stage.main(*beam_arguments(data_files, searched, repetition_penalty=1.2))
    with pytest.raises(ValueError, match=r"another recipe \(generation_config: 'recipe' there, 'model' here;"):
        stage.main(*beam_arguments(data_files, searched, generation_config="model"))


def test_a_dry_run_counts_and_touches_nothing(data_files, searched, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("leverplus_trl.stage.load_vlm", lambda *_: pytest.fail("the VLM was loaded"))
    with caplog.at_level("INFO", logger="leverplus_trl"):
        stage.main(*beam_arguments(data_files, tmp_path / "dry", dry_run=True))
    per_query = num_scored_sequences(6, 2, 2)
    assert f"{per_query} scored prompts a query, {17 * per_query} in all" in caplog.text
    scored = sum(len(datasets.load_dataset(str(searched), "ledger", split=split)) for split in ("train", "test"))
    assert re.search(rf"prompts to score +{scored}\n", caplog.text)
    assert not (tmp_path / "dry").exists()


def with_images(table, change):
    """The table with the encoded bytes of its images changed by `change(id, bytes)`."""
    plain = table.cast_column("image", Image(decode=False))
    rows = [{**row, "image": {"bytes": change(row["id"], row["image"]["bytes"]), "path": None}} for row in plain]
    return Dataset.from_list(rows, features=plain.features).cast_column("image", Image())


@pytest.fixture
def refuses(world, tmp_path, monkeypatch):
    """Asserts that the stage refuses damaged input before the VLM is loaded."""
    monkeypatch.setattr("leverplus_trl.stage.load_vlm", lambda *_: pytest.fail("the VLM was loaded"))

    def check(message, edit=lambda tables: tables, **changes):
        tables = {name: world[name].select(range(8)) for name in ("pool", "train", "test")}
        files = write_examples(tmp_path, edit(tables))
        with pytest.raises(ValueError, match=message):
            stage.main(*beam_arguments(files, changes.pop("output_dir", tmp_path / "out"), **changes))

    return check


def test_a_missing_column_is_named(refuses):
    refuses(
        "expected `question` and `answer`", lambda t: {name: u.remove_columns("question") for name, u in t.items()}
    )
    refuses("no column 'prompt'", columns={"question": "prompt"})


def test_a_corrupt_image_is_named(refuses, world):
    victim = world["pool"][3]["id"]

    def damaged(tables):
        return tables | {"pool": with_images(tables["pool"], lambda i, data: data[:60] if i == victim else data)}

    refuses(rf"1 of 8 examples of split 'pool' can't be used: '{victim}': its image", damaged)


def test_a_corrupt_image_can_be_skipped(world, tmp_path, caplog):
    victim = world["pool"][3]["id"]
    tables = {name: world[name].select(range(8)) for name in ("pool", "train")}
    tables["pool"] = with_images(tables["pool"], lambda i, data: data[:60] if i == victim else data)
    files = write_examples(tmp_path, tables)
    arguments = beam_arguments(files, tmp_path / "out", on_bad_example="skip", query_splits=["train"], num_queries=2)
    stage.main(*arguments)
    assert f"Skipping 1 of 8 examples of split 'pool': '{victim}'" in caplog.text
    used = datasets.load_dataset(str(tmp_path / "out"), "beams", split="train")["candidate_ids"][:]
    assert len(used) == 2 and victim not in {identifier for ids in used for identifier in ids}


def test_duplicate_ids_are_named(refuses, world):

    def doubled(tables):
        return tables | {"pool": datasets.concatenate_datasets([tables["pool"], tables["pool"].select([2])])}

    refuses(f"1 duplicate ids, e.g. .'{world['pool'][2]['id']}'", doubled)


def test_an_id_in_pool_and_queries_is_refused(refuses):
    refuses("are in both 'pool' and 'test'", lambda t: t | {"test": t["pool"].select([0])})


def test_a_metric_that_later_stages_refuse_is_reported_before_the_search(world, tmp_path, caplog):
    """A file with one answer a question, and the default metric, which counts the agreement of annotators."""
    tables = {name: world[name].select(range(8)).remove_columns("answers") for name in ("pool", "train")}
    options = {"metric": None, "query_splits": ["train"], "dry_run": True}
    files = write_examples(tmp_path, tables)
    stage.main(*beam_arguments(files, tmp_path / "out", **options))
    assert "`rollouts` and `evaluate` will refuse it: metric vqa_accuracy gives 0" in caplog.text
    assert "for one answer set `metric: exact_match`" in caplog.text
    caplog.clear()
    stage.main(*beam_arguments(files, tmp_path / "out", **options | {"metric": "exact_match"}))
    assert "will refuse it" not in caplog.text


def test_a_query_without_candidates_is_named(refuses, world):
    alone = world["pool"].select([0])
    refuses(
        f"query '{alone[0]['id']}' has no candidates",
        lambda t: t | {"pool": alone},
        query_splits=["pool"],
        num_candidates=1,
        num_shots=1,
    )


def test_more_candidates_than_the_pool_holds_are_refused(refuses):
    refuses("num_candidates is 9, but the pool holds 8", num_candidates=9)


def test_an_output_folder_that_cannot_be_written_is_refused_first(refuses, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refuses("can't be written to", output_dir=tmp_path / "file" / "out")


def test_shots_that_overflow_the_context_are_refused_before_the_search(world, tmp_path, monkeypatch):
    files = write_examples(
        tmp_path, {"pool": world["pool"].select(range(150)), "train": world["train"].select(range(2))}
    )
    monkeypatch.setattr(stage, "generate_beams", lambda *_: pytest.fail("the search was begun"))
    with pytest.raises(ValueError, match=r"longest prompt has \d+ tokens \(140 demonstrations.*context holds 1024"):
        stage.main(*beam_arguments(files, tmp_path / "out", num_shots=140, num_candidates=145, query_splits=["train"]))


def test_an_unknown_recipe_key_is_fatal(data_files, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("stage: beams\ndataset: x\nvlm: y\noutput_dir: z\nbeam_sise: 4\n")
    with pytest.raises(ValueError, match="beam_sise"):
        stage.make_parser().parse_args_and_config(["--config", str(file)])


def test_a_recipe_of_another_stage_is_refused(data_files, tmp_path):
    with pytest.raises(ValueError, match="`stage: sft` and was given to the stage 'beams'"):
        stage.main(*beam_arguments(data_files, tmp_path, stage="sft"))


def test_an_image_of_one_pixel_passes(world, tmp_path):
    buffer = io.BytesIO()
    PILImage.new("RGB", (1, 1)).save(buffer, "PNG")
    first = world["pool"][0]["id"]
    tables = {"pool": world["pool"].select(range(8)), "train": world["train"].select(range(1))}
    tables["pool"] = with_images(tables["pool"], lambda i, data: buffer.getvalue() if i == first else data)
    files = write_examples(tmp_path, tables)
    stage.main(*beam_arguments(files, tmp_path / "out", query_splits=["train"], num_candidates=8))
    assert (tmp_path / "out" / "README.md").exists()
