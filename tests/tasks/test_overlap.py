# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import io
import json

import pytest
from datasets import Dataset
from PIL import Image

from leverplus_trl.provenance import overlap_sentence
from leverplus_trl.tables import write_tables
from leverplus_trl.tasks import (
    DataArguments,
    Overlap,
    TaskArguments,
    check_disjoint,
    check_distinct,
    check_overlap,
    load_examples,
    make_task,
    overlap_facts,
)
from leverplus_trl.tasks.examples import to_examples
from leverplus_trl.tasks.overlap import find_copies


def png(colour, size=(2, 2)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def examples(rows, **columns):
    """Rows of id, image, question and answer."""
    names = ("id", "image", "question", "answer")
    table = Dataset.from_dict({name: [row[place] for row in rows] for place, name in enumerate(names)} | columns)
    return to_examples(table, DataArguments("memory"), "train")


VQA = make_task(TaskArguments())


def test_copies_have_the_same_image_question_and_answer_and_another_id():
    red, blue = png("red"), png("blue")
    queries = examples([("q1", red, "what ?", "red"), ("q2", blue, "what ?", "blue"), ("p3", red, "how ?", "so")])
    pool = examples(
        [
            ("p1", red, " what ?", "red "),
            ("p2", red, "what ?", "blue"),
            ("p3", red, "how ?", "so"),  # the query itself
            ("p4", blue, "what ?", "red"),
            ("p5", red, "what ?", "red"),
        ]
    )
    assert find_copies(pool, queries, VQA) == {"q1": ["p1", "p5"]}
    assert find_copies(queries, pool, VQA) == {"p1": ["q1"], "p5": ["q1"]}
    assert find_copies(pool, pool, VQA) == {"p1": ["p5"], "p5": ["p1"]}


def test_images_in_files_and_in_tables_are_compared_by_their_bytes(tmp_path):
    (tmp_path / "a.png").write_bytes(png("red")["bytes"])
    (tmp_path / "b.png").write_bytes(png("blue")["bytes"])
    stored = examples([("p1", png("red"), "q", "a"), ("p2", png("green"), "q", "a")])
    in_files = [
        (f"q{i}", {"bytes": None, "path": str(tmp_path / name)}, "q", "a") for i, name in enumerate(("a.png", "b.png"))
    ]
    assert find_copies(stored, examples(in_files), VQA) == {"q0": ["p1"]}
    assert find_copies(examples(in_files), stored, VQA) == {"p1": ["q0"]}


def test_what_the_task_shows_decides():
    rows = [("q1", None, "which ?", "A")], [("p1", None, "which ?", "A"), ("p2", None, "which ?", "A")]
    task = make_task(TaskArguments(task="multiple_choice"))
    queries = examples(rows[0], choices=[["x", "y"]])
    pool = examples(rows[1], choices=[["x", "z"], ["x", "y"]])
    assert find_copies(pool, queries, task) == {"q1": ["p2"]}
    task = make_task(TaskArguments(task="text_classification", labels=["A"], question_template="{text} {question}"))
    assert find_copies(examples(rows[1], text=["s", "t"]), examples(rows[0], text=["t"]), task) == {"q1": ["p2"]}


def test_what_becomes_of_an_overlap(caplog):
    queries = examples([("q1", png("red"), "q", "a"), ("q2", png("blue"), "q", "a")])
    pool = examples([("p1", png("red"), "q", "a"), ("p2", png("red"), "q", "b")])
    with pytest.raises(
        ValueError, match=r"1 of 2 queries of split 'test' are in the pool \(split 'train'\).*'q1' as 'p1'"
    ):
        check_overlap(pool, queries, VQA, DataArguments("x"), "test")
    for mode, excluded in (("exclude", {"q1": ["p1"]}), ("allow", {})):
        overlap = check_overlap(pool, queries, VQA, DataArguments("x", on_overlap=mode), "test")
        assert overlap.excluded == excluded and f"on_overlap is {mode}" in caplog.text
        assert overlap_facts({"test": overlap, "train": Overlap()}) == {
            "overlap": {"test": {"on_overlap": mode, "queries": 1, "pool_examples": 1}}
        }
    alone = check_overlap(pool.select([1]), queries, VQA, DataArguments("x"), "test")
    assert not alone.copies and overlap_facts({"test": alone}) == {}
    with pytest.raises(ValueError, match="on_overlap is 'keep'; expected one of raise, exclude, allow"):
        DataArguments("x", on_overlap="keep")


def test_candidates_of_earlier_stages_are_checked():
    overlap = Overlap("exclude", {"q1": ["p1"]})
    overlap.check({"q1": ["p2"], "q2": ["p1"]}, "beams")
    with pytest.raises(ValueError, match="'beams' offers the query 'q1' the candidate 'p1', which has its content"):
        overlap.check({"q1": ["p2", "p1"]}, "beams")
    Overlap("allow", {"q1": ["p1"]}).check({"q1": ["p1"]}, "beams")
    with pytest.raises(ValueError, match="offers the query 'q1' the candidate 'q1'"):
        Overlap("allow", {"q1": ["p1"]}).check({"q1": ["q1"]}, "beams")


def test_a_card_says_it(tmp_path):
    found = {"on_overlap": "allow", "queries": 3, "pool_examples": 4}
    table = Dataset.from_dict({"n": [1]})
    write_tables(tmp_path, {"t": {"test": table}}, "T", "What it is.", {"facts": {"overlap": {"test": found}}})
    sentence = overlap_sentence("test", found)
    assert sentence in (tmp_path / "README.md").read_text()
    assert "3 queries of split 'test' are in the pool under another id" in sentence and "(4 examples)" in sentence
    assert "these are among their candidates (on_overlap: allow)" in sentence
    assert "these are not among" in overlap_sentence("test", found | {"on_overlap": "exclude"})


def test_an_id_names_one_example_in_pool_and_queries(tmp_path):
    for split, answers in {"train": "abcdefghij", "test": "vwxyz"}.items():
        rows = [{"id": str(row), "question": "q", "answer": answer} for row, answer in enumerate(answers)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}

    def check(pool, queries, **columns):
        data = DataArguments("json", data_files=files, columns=columns)
        check_disjoint(*(load_examples(data, split) for split in (pool, queries)), pool, queries)

    for pool, queries in (("train", "train[2:]"), ("train[3:5]", "train"), ("train", "train")):
        check(pool, queries)
    with pytest.raises(ValueError, match=r"5 ids are in both 'train' and 'test' for different rows.*'0', '1', '2'"):
        check("train", "test")
    # row 2 of test has the id of a row of train that is among the queries
    with pytest.raises(ValueError, match=r"3 ids are in both 'train\[7:\]\+test\[2:\]' and 'train\[:5\]'"):
        check("train[7:]+test[2:]", "train[:5]")
    # a copy of a row in another split is another row
    (tmp_path / "copy.jsonl").write_text((tmp_path / "train.jsonl").read_text().splitlines()[8])
    files["copy"] = str(tmp_path / "copy.jsonl")
    with pytest.raises(ValueError, match=r"1 ids are in both .* for different rows, e.g. \['8'\]"):
        check("train[:8]+copy", "train[8:]")
    check("train+test", "test[:3]", id="answer", answer="id")
    check("train+test", "train[9:]+test[:1]", id="answer", answer="id")
    for split in ("train+test", "test[:3]"):  # made ids name the row of the source split, whatever slice
        (tmp_path / "made.jsonl").write_text("".join(f'{{"question": "q{i}", "answer": "a"}}\n' for i in range(5)))
        made = {name: str(tmp_path / "made.jsonl") for name in ("train", "test")}
        ids = load_examples(DataArguments("json", data_files=made), split)["id"][:]
        assert ids[-1] == ("test-4" if "+" in split else "test-2") and len(set(ids)) == len(ids)


def test_splits_of_queries_share_none():
    one, two = examples([("a", None, "q", "a"), ("b", None, "r", "a")]), examples([("b", None, "r", "a")])
    check_distinct({}, one, "train[:2]")
    with pytest.raises(ValueError, match=r"1 queries are in both 'train\[:2\]' and 'train\[1:\]', e.g. \['b'\]"):
        check_distinct({"train[:2]": one}, two, "train[1:]")


ROWS = [{"question": f"q{i}", "answer": f"a{i % 7}"} for i in range(400)]
PARTS = {"pool": 0.6, "train": 0.2, "validation": 0.1, "test": 0.1}


def parts(tmp_path, rows, split=PARTS, **arguments):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataArguments("json", data_files=str(tmp_path / "rows.jsonl"), split=split, **arguments)
    return {name: load_examples(data, name) for name in data.split}


def contents(table):
    return set(zip(table["question"], table["answer"], strict=True))


def test_a_file_is_cut_into_parts_by_content(tmp_path):
    found = parts(tmp_path, ROWS)
    sizes = {name: len(table) for name, table in found.items()}
    assert sizes == {"pool": 248, "train": 74, "validation": 40, "test": 38}
    ids = [identifier for table in found.values() for identifier in table["id"]]
    assert sorted(ids) == sorted(f"train-{row}" for row in range(400))
    for table in found.values():
        assert all(ROWS[int(row["id"].split("-")[1])]["question"] == row["question"] for row in table)
    # In another order, with other ids, with more rows around it, an example is in the same part.
    more = [
        {"id": f"x{i}", **row}
        for i, row in enumerate([*reversed(ROWS), *({"question": f"r{i}", "answer": "a"} for i in range(100))])
    ]
    again = parts(tmp_path, more)
    assert all(contents(found[name]) <= contents(again[name]) for name in PARTS)


def test_equal_examples_are_in_one_part(tmp_path):
    found = parts(tmp_path, ROWS * 2)
    tables = list(found.values())
    for place, table in enumerate(tables):
        assert len(table) == 2 * len(contents(table))
        assert not any(contents(table) & contents(other) for other in tables[place + 1 :])
    for name in ("train", "validation", "test"):
        task = make_task(TaskArguments(task="text_classification", labels=["a"]))
        assert not find_copies(found["pool"], found[name], task)


def test_parts_can_be_sliced_and_images_count(tmp_path):
    for number, colour in enumerate(("red", "blue") * 20):
        Image.new("RGB", (2, 2), colour).save(tmp_path / f"{number}.png")
    rows = [{"image": f"{i}.png", "question": f"q{i // 2}", "answer": "a"} for i in range(40)]
    found = parts(tmp_path, rows, {"one": 0.5, "two": 0.5}, image_dir=str(tmp_path))
    assert {row["question"] for row in found["one"]} & {row["question"] for row in found["two"]}
    data = DataArguments(
        "json", data_files=str(tmp_path / "rows.jsonl"), split={"one": 0.5, "two": 0.5}, image_dir=str(tmp_path)
    )
    assert load_examples(data, "one[:3]")["id"][:] == found["one"]["id"][:3]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({}, "add up to 0; expected 1"),
        ("pool", "split is 'pool'; expected a mapping"),
        ({"pool": 0.6, "test": 0.3}, "add up to 0.9; expected 1"),
        ({"pool": 60, "test": 40}, "gives the part 'pool' the fraction 60"),
        ({"pool": True}, "expected a number"),
        ({"pool": float("nan"), "test": 0.5}, "is nan; expected a number"),
        ({"pool": 1.5, "test": -0.5}, "gives the part 'pool' the fraction 1.5"),
        ({"a b": 1.0}, "names the part 'a b'"),
    ],
)
def test_fractions_are_checked(split, message):
    with pytest.raises(ValueError, match=message):
        DataArguments("x", split=split)


def test_what_cannot_be_cut_is_named(tmp_path):
    with pytest.raises(
        ValueError, match="split gives the part 'pool' none of the 1 examples, of which 1 are different"
    ):
        parts(tmp_path, ROWS[:1], {"pool": 0.5, "test": 0.5})
    data = DataArguments("json", data_files=str(tmp_path / "rows.jsonl"), split=PARTS)
    with pytest.raises(
        ValueError, match="the mapping `split` makes no part 'dev', only pool, train, validation, test"
    ):
        load_examples(data, "dev")
    files = {name: str(tmp_path / "rows.jsonl") for name in ("train", "test")}
    with pytest.raises(ValueError, match="split cuts a dataset of one split, and 'json' has train, test"):
        load_examples(DataArguments("json", data_files=files, split=PARTS), "pool")
