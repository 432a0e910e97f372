# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""The recipe keys that name the examples."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import yaml


ON_BAD_EXAMPLE = ("raise", "skip")


@dataclass
class DataArguments:
    """
    Where examples come from and what their columns are called there.

    Args:
        dataset (`str`):
            Hub id, local dataset directory (parquet + card, or `save_to_disk`), or builder name with `data_files`.
        dataset_config (`str`, *optional*):
            Configuration (subset) of the dataset.
        dataset_revision (`str`, *optional*):
            Hub revision.
        data_files (`dict` or `str`, *optional*):
            Files for a builder such as `json`, `csv` or `parquet`.
        columns (`dict[str, str]`, *optional*):
            `{our name: their name}` for columns called otherwise there.
        image_dir (`str`, *optional*):
            Folder that image paths are relative to, where the image column holds paths.
        pool_split (`str`, *optional*, defaults to `"train"`):
            Split that demonstrations are taken from.
        on_bad_example (`str`, *optional*, defaults to `"raise"`):
            `"raise"` stops at examples that can't be used (an image that can't be decoded, an empty answer), naming
            them; `"skip"` leaves them out and says so.
    """

    dataset: str = field(metadata={"help": "Hub id, dataset directory, or builder name together with data_files."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration (subset) of the dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Hub revision of the dataset."})
    data_files: dict | str | None = field(default=None, metadata={"help": "Files for the json, csv, ... builders."})
    columns: dict | str | None = field(
        default=None, metadata={"help": "{our name: their name} of columns, as a mapping."}
    )
    image_dir: str | None = field(default=None, metadata={"help": "Folder that image paths are relative to."})
    pool_split: str = field(default="train", metadata={"help": "Split that demonstrations are taken from."})
    on_bad_example: str = field(default="raise", metadata={"help": "raise | skip: what to do with unusable examples."})

    def __post_init__(self):
        if self.on_bad_example not in ON_BAD_EXAMPLE:
            raise ValueError(
                f"on_bad_example is {self.on_bad_example!r}; expected one of {', '.join(ON_BAD_EXAMPLE)}."
            )
        if not isinstance(self.dataset, str) or not self.dataset.strip():
            raise ValueError(f"dataset is {self.dataset!r}; expected a hub id, a folder, or csv, json or parquet.")
        if os.path.isfile(os.path.expanduser(self.dataset)):
            kind = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}.get(Path(self.dataset).suffix, "csv")
            raise ValueError(
                f"dataset is {self.dataset!r}, which is a file; name the kind of file, and the file as data_files: "
                f"`dataset: {kind}` and `data_files: {self.dataset}`."
            )
        for name in ("columns", "data_files"):
            value = getattr(self, name)
            if isinstance(value, str) and value.startswith("{"):  # a mapping on the command line
                setattr(self, name, _mapping(name, value))
        self._check_columns()
        self._check_data_files()

    def _check_columns(self):
        columns = {} if self.columns is None else self.columns
        if not isinstance(columns, dict) or not all(
            isinstance(name, str) for pair in columns.items() for name in pair
        ):
            raise ValueError(
                f"columns is {self.columns!r}; expected a mapping such as {{question: text, answer: label}}."
            )

    def _check_data_files(self):
        named = self.data_files if isinstance(self.data_files, dict) else {"train": self.data_files}
        for split, files in named.items():
            for file in files if isinstance(files, list) else [files]:
                if file is None and not isinstance(self.data_files, dict):
                    continue
                if not isinstance(file, str) or not file or not isinstance(split, str):
                    raise ValueError(
                        f"data_files is {self.data_files!r}; expected a path, or a mapping from splits to paths such "
                        "as {train: train.csv, test: test.csv}."
                    )
                if os.path.isdir(os.path.expanduser(file)):
                    raise ValueError(
                        f"data_files names {file!r}, which is a folder; expected a file, or a pattern such as "
                        f"{os.path.join(file, '*.csv')!r}."
                    )


def _mapping(name: str, text: str) -> dict:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(
            f"{name} is {text!r}, which is no mapping ({' '.join(str(error).split())}); expected e.g. {{a: b}}."
        ) from error
