# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that name the examples."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..fields import check_fields, documented, option


ON_BAD_EXAMPLE = ("raise", "skip")
ON_OVERLAP = ("raise", "exclude", "allow")


@documented
@dataclass
class DataArguments:
    """Data: where examples come from and what their columns are called there."""

    dataset: str = option(
        "Hub id, dataset directory, or builder name together with data_files. A directory holds parquet and a"
        " card, or is made by `save_to_disk`."
    )
    dataset_config: str | None = option("Configuration (subset) of the dataset.", None)
    dataset_revision: str | None = option("Hub revision of the dataset.", None)
    data_files: dict[str, str | list[str]] | list[str] | str | None = option(
        "Files of a json, csv, ... dataset: all.csv, or '{train: a.csv, test: b.csv}'.", None, path="file"
    )
    columns: dict[str, str] | None = option(
        "Our name and theirs of columns, e.g. '{question: prompt, answer: reply}'.", None
    )
    image_dir: str | None = option("Folder that image paths are relative to.", None, path="folder")
    pool_split: str = option("Split that demonstrations are taken from.", "train")
    split: dict[str, float] | None = option(
        "Parts that one split is cut into, e.g. '{pool: 0.6, train: 0.2, test: 0.2}'. A hash of image, "
        "question and answer decides, so equal examples share a part and sizes are approximate.",
        None,
    )
    on_bad_example: str = option(
        "raise | skip: what to do with unusable examples. These are images that can't be decoded and empty "
        "answers; both name them in the log or error.",
        "raise",
        choices=ON_BAD_EXAMPLE,
    )
    on_overlap: str = option(
        "What to do with queries that are in the pool under another id. raise stops, exclude offers a query "
        "none of its copies, allow does; a query is never offered itself.",
        "raise",
        choices=ON_OVERLAP,
    )

    def __post_init__(self):
        if isinstance(self.dataset, str) and os.path.isfile(os.path.expanduser(self.dataset)):
            kind = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}.get(Path(self.dataset).suffix, "csv")
            raise ValueError(
                f"dataset is {self.dataset!r}, which is a file; name the kind of file, and the file as data_files: "
                f"`dataset: {kind}` and `data_files: {self.dataset}`."
            )
        check_fields(self)
        self._check_columns()
        self._check_split()

    def _check_columns(self):
        columns = self.columns or {}
        for name in ("answer", "answers"):
            if name in columns and columns[name] == columns.get("question"):
                raise ValueError(
                    f"columns maps both question and {name} to {columns[name]!r}: the VLM would be shown what it is "
                    f"asked for. Map question, or {name}, to another column."
                )

    def _check_split(self):
        for name, fraction in (self.split or {}).items():
            if not re.fullmatch(r"\w+", name):
                raise ValueError(f"split names the part {name!r}; a name has letters, digits and underscores alone.")
            if not 0 < fraction <= 1:
                raise ValueError(f"split gives the part {name!r} the fraction {fraction!r}; expected 0 to 1.")
        if self.split is not None and not math.isclose(sum(self.split.values()), 1.0):
            raise ValueError(f"The fractions of split add up to {sum(self.split.values()):g}; expected 1.")
