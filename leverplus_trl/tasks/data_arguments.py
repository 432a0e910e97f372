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

from ..fields import check_fields


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
        data_files (`str`, `list[str]` or `dict`, *optional*):
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
    data_files: dict[str, str | list[str]] | list[str] | str | None = field(
        default=None, metadata={"help": "Files for the json, csv, ... builders.", "path": "file"}
    )
    columns: dict[str, str] | None = field(
        default=None, metadata={"help": "{our name: their name} of columns, as a mapping."}
    )
    image_dir: str | None = field(
        default=None, metadata={"help": "Folder that image paths are relative to.", "path": "folder"}
    )
    pool_split: str = field(default="train", metadata={"help": "Split that demonstrations are taken from."})
    on_bad_example: str = field(
        default="raise",
        metadata={"help": "raise | skip: what to do with unusable examples.", "choices": ON_BAD_EXAMPLE},
    )

    def __post_init__(self):
        if isinstance(self.dataset, str) and os.path.isfile(os.path.expanduser(self.dataset)):
            kind = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}.get(Path(self.dataset).suffix, "csv")
            raise ValueError(
                f"dataset is {self.dataset!r}, which is a file; name the kind of file, and the file as data_files: "
                f"`dataset: {kind}` and `data_files: {self.dataset}`."
            )
        check_fields(self)
