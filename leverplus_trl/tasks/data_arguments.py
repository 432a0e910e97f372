# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that name the examples."""

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..fields import check_fields


ON_BAD_EXAMPLE = ("raise", "skip")
ON_OVERLAP = ("raise", "exclude", "allow")


@dataclass
class DataArguments:
    """
    Data: where examples come from and what their columns are called there.

    Args:
        dataset (`str`):
            Hub id, local dataset directory (parquet + card, or `save_to_disk`), or builder name with `data_files`.
        dataset_config (`str`, *optional*):
            Configuration (subset) of the dataset.
        dataset_revision (`str`, *optional*):
            Hub revision.
        data_files (`str`, `list[str]` or `dict`, *optional*):
            Files for a builder such as `json`, `csv` or `parquet`.
        columns (`dict[str, str]`, *optional*):
            `{our name: their name}` for columns called otherwise there.
        image_dir (`str`, *optional*):
            Folder that image paths are relative to, where the image column holds paths.
        pool_split (`str`, *optional*, defaults to `"train"`):
            Split that demonstrations are taken from.
        split (`dict[str, float]`, *optional*):
            `{part: fraction}` to cut a dataset of one split into parts, such as `{pool: 0.6, train: 0.2, validation:
            0.1, test: 0.1}`. A hash of image, question and answer decides on the part of an example: equal examples
            are in one part, in any order and under any id. So the sizes of the parts are approximate.
        on_bad_example (`str`, *optional*, defaults to `"raise"`):
            `"raise"` stops at examples that can't be used (an image that can't be decoded, an empty answer), naming
            them; `"skip"` leaves them out and says so.
        on_overlap (`str`, *optional*, defaults to `"raise"`):
            What to do if a query is in the pool under another id, with the same image, question and answer: `"raise"`
            stops and names them, `"exclude"` does not offer a query its copies, `"allow"` does. A query is never
            offered itself, the example with its own id.
    """

    dataset: str = field(metadata={"help": "Hub id, dataset directory, or builder name together with data_files."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration (subset) of the dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Hub revision of the dataset."})
    data_files: dict[str, str | list[str]] | list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Files of a json, csv, ... dataset: all.csv, or '{train: a.csv, test: b.csv}'.",
            "path": "file",
        },
    )
    columns: dict[str, str] | None = field(
        default=None, metadata={"help": "Our name and theirs of columns, e.g. '{question: prompt, answer: reply}'."}
    )
    image_dir: str | None = field(
        default=None, metadata={"help": "Folder that image paths are relative to.", "path": "folder"}
    )
    pool_split: str = field(default="train", metadata={"help": "Split that demonstrations are taken from."})
    split: dict[str, float] | None = field(
        default=None, metadata={"help": "Parts that one split is cut into, e.g. '{pool: 0.6, train: 0.2, test: 0.2}'."}
    )
    on_bad_example: str = field(
        default="raise",
        metadata={"help": "raise | skip: what to do with unusable examples.", "choices": ON_BAD_EXAMPLE},
    )
    on_overlap: str = field(
        default="raise",
        metadata={
            "help": "What to do with queries that are in the pool under another id.",
            "choices": ON_OVERLAP,
        },
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
