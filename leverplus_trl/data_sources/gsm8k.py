# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""GSM8K: a JSON line per problem. Its answer is a worked solution that ends in `#### NUMBER`."""

import json
from collections.abc import Iterator

from .data_source import DataSource, Row, example, expect
from .raw_files import RawFiles


COUNTS = {"train": 7473, "test": 1319}
MARK = "####"


def _read(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find(f"{split}.jsonl")
    records = []
    # splitlines() would also split at characters that a JSON string may contain.
    for number, line in enumerate(raw.read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"Line {number} of {str(file)!r} is not JSON ({error}): it looks truncated, fetch it again."
            ) from error
    raw.check_count(file, len(records), COUNTS[split], "problems")
    for position, record in enumerate(raw.each(file, records)):
        yield _read_row(record, split, position)


def _read_row(row: Row, split: str, position: int) -> Row:
    solution = expect(str, "answer", row["answer"]) or ""
    _, mark, number = solution.rpartition(MARK)
    number = number.strip().replace(",", "") if mark else ""
    return example(
        f"{split}-{position}",
        row["question"],
        [number],
        answer=solution,
        problem="" if number else f"the solution does not end in `{MARK} NUMBER`",
    )


GSM8K = DataSource(
    title="GSM8K",
    homepage="https://github.com/openai/grade-school-math",
    licence="MIT",
    citation="cobbe2021training",
    reference="Cobbe et al., Training Verifiers to Solve Math Word Problems, 2021",
    task="math_word_problem",
    metric="gsm8k_strict",
    counts=COUNTS,
    read=_read,
    read_hub=_read_row,
    hub_ids={"openai/gsm8k": "main"},
    has_images=False,
    note="`answer` is the worked solution, which a demonstration shows; `answers` holds the final number, without "
    "commas. Ids are the split and the position in the official file, counted from 0.",
)
