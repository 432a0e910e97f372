# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""SST-2 as GLUE distributes it: `train.tsv` and `dev.tsv`. The test split has no labels."""

import csv
from collections.abc import Iterator

from .data_source import DataSource, Row, example
from .raw_files import RawFiles


COUNTS = {"train": 67349, "validation": 872}
LABELS = ("negative", "positive")


def _read(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find("train.tsv" if split == "train" else "dev.tsv")
    names, rows = raw.read_tsv(file, csv.QUOTE_NONE)  # quotation marks are part of the sentences
    if names != ["sentence", "label"]:
        raise ValueError(
            f"{str(file)!r} has the columns {names}; SST-2's file has 'sentence' and 'label'. Point `root` at the "
            "folder SST-2 itself."
        )
    raw.check_count(file, len(rows), COUNTS[split], "sentences")
    for position, row in enumerate(raw.each(file, rows)):
        yield _read_row(row, split, position)


def _read_row(row: Row, split: str, position: int) -> Row:
    known = str(row["label"]) in ("0", "1")
    return example(
        f"{split}-{row.get('idx', position)}",
        (row["sentence"] or "").strip(),
        [LABELS[int(row["label"])]] if known else [],
        problem="" if known else "its label is neither 0 nor 1",
    )


SST2 = DataSource(
    title="SST-2 (GLUE)",
    homepage="https://gluebenchmark.com/tasks",
    licence="not stated; see https://nlp.stanford.edu/sentiment",
    citation="socher2013recursive",
    reference="Socher et al., Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank, EMNLP "
    "2013; Wang et al., GLUE, ICLR 2019",
    task="text_classification",
    metric="exact_match",
    counts=COUNTS,
    read=_read,
    read_hub=_read_row,
    hub_ids={"stanfordnlp/sst2": None},
    has_images=False,
    note="Recipes say `labels: [negative, positive]`. Ids are the split and the position in the official file, "
    "counted from 0.",
)
