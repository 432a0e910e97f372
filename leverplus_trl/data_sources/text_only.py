# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Datasets without images: GSM8K (a JSON line per problem; the answer is a worked solution that ends in `#### NUMBER`)
and SST-2 as GLUE distributes it (`train.tsv` and `dev.tsv`; the test split has no labels).
"""

import csv
import json
from collections.abc import Iterator
from functools import partial

from .data_source import DataSource, RawFiles, Row, example, expect


GSM8K_COUNTS = {"train": 7473, "test": 1319}
SST2_COUNTS = {"train": 67349, "validation": 872}
SST2_LABELS = ("negative", "positive")


def _read_gsm8k(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find(f"{split}.jsonl")
    records = []
    # splitlines() would also split at characters that a JSON string may contain.
    for number, line in enumerate(raw.read_text(file).split("\n"), start=1):
        try:
            if line.strip():
                records.append(json.loads(line))
        except ValueError as error:
            message = f"Line {number} of {str(file)!r} is not JSON ({error})"
            raise ValueError(f"{message}: it looks truncated, fetch it again.") from error
    raw.check_count(file, len(records), GSM8K_COUNTS[split], "problems")
    for position, record in enumerate(raw.each(file, records)):
        yield _gsm8k_row(record, split, position)


def _gsm8k_row(row: Row, split: str, position: int) -> Row:
    solution = expect(str, "answer", row["answer"]) or ""
    _, mark, number = solution.rpartition("####")
    number = number.strip().replace(",", "") if mark else ""
    problem = "" if number else "the solution does not end in `#### NUMBER`"
    return example(f"{split}-{position}", row["question"], [number], answer=solution, problem=problem)


def _read_sst2(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find("train.tsv" if split == "train" else "dev.tsv")
    names, rows = raw.read_tsv(file, csv.QUOTE_NONE)  # quotation marks are part of the sentences
    if names != ["sentence", "label"]:
        message = f"{str(file)!r} has the columns {names}; SST-2's file has 'sentence' and 'label'"
        raise ValueError(f"{message}. Point `root` at the folder SST-2 itself.")
    raw.check_count(file, len(rows), SST2_COUNTS[split], "sentences")
    for position, row in enumerate(raw.each(file, rows)):
        yield _sst2_row(row, split, position)


def _sst2_row(row: Row, split: str, position: int) -> Row:
    label = str(row["label"])
    answers = [SST2_LABELS[int(label)]] if label in ("0", "1") else []
    problem = "" if answers else "its label is neither 0 nor 1"
    return example(f"{split}-{row.get('idx', position)}", (row["sentence"] or "").strip(), answers, problem=problem)


_source = partial(DataSource, has_images=False)
GSM8K = _source(
    title="GSM8K",
    homepage="https://github.com/openai/grade-school-math",
    licence="MIT",
    citation="cobbe2021training",
    reference="Cobbe et al., Training Verifiers to Solve Math Word Problems, 2021",
    task="math_word_problem",
    metric="gsm8k_strict",
    counts=GSM8K_COUNTS,
    read=_read_gsm8k,
    read_hub=_gsm8k_row,
    hub_ids={"openai/gsm8k": "main"},
    note="`answer` is the worked solution, which a demonstration shows; `answers` holds the final number, without "
    "commas. Ids are the split and the position in the official file, counted from 0.",
)
SST2 = _source(
    title="SST-2 (GLUE)",
    homepage="https://gluebenchmark.com/tasks",
    licence="not stated; see https://nlp.stanford.edu/sentiment",
    citation="socher2013recursive",
    reference="Socher et al., Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank, EMNLP "
    "2013; Wang et al., GLUE, ICLR 2019",
    task="text_classification",
    metric="exact_match",
    counts=SST2_COUNTS,
    read=_read_sst2,
    read_hub=_sst2_row,
    hub_ids={"stanfordnlp/sst2": None},
    note="Recipes say `labels: [negative, positive]`. Ids are the split and the position in the official file, "
    "counted from 0.",
)
