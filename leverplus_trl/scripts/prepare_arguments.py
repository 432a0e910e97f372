# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the stage `prepare`."""

from dataclasses import dataclass

from ..data_sources.names import DATASETS
from ..fields import check_fields, documented, option


ON_BAD_EXAMPLE = ("skip", "raise")


@documented
@dataclass
class PrepareArguments:
    """Dataset: which, from where, and how much of it."""

    dataset: str = option(" | ".join(DATASETS), choices=DATASETS)
    output_dir: str = option("Where the dataset folder is written.", path="folder")
    root: str | None = option("Folder of the official files.", None, path="folder")
    image_root: str | None = option("Folder of the image folders; default: root.", None, path="folder")
    hub_id: str | None = option("Hub dataset to read instead of official files.", None)
    hub_config: str | None = option("Its configuration.", None)
    hub_revision: str | None = option("Its revision.", None)
    splits: list[str] | None = option(
        "Splits to prepare; default: all with answers.", None, not_empty=True, unique=True
    )
    num: dict[str, int] | int | None = option(
        "Examples of each split, or a mapping such as {train: 5000}; default: all.", None, min=1
    )
    seed: int = option("Decides about the order of the rows, and which ones num takes.", 0, min=0)
    holdout: int | None = option(
        "Cut so many examples off the first split, sharing no image with it. They become the split `holdout`,"
        " which may be a little larger.",
        None,
        min=1,
    )
    embed_images: bool = option("Take image files into the table. Otherwise the table refers to them.", False)
    on_bad_example: str = option(
        "skip | raise: what to do with unusable examples. skip counts them; image files are opened only with "
        "`embed_images` or `holdout`.",
        "skip",
        choices=ON_BAD_EXAMPLE,
    )
    allow_other_counts: bool = option("Take files with another number of records than the official ones.", False)

    def __post_init__(self):
        check_fields(self)
        if (self.root is None) == (self.hub_id is None):
            raise ValueError(
                f"root is {self.root!r} and hub_id {self.hub_id!r}: set one of them, the folder of the official files "
                "or the hub dataset."
            )
        for name, needs in (("image_root", "root"), ("hub_config", "hub_id"), ("hub_revision", "hub_id")):
            if getattr(self, name) is not None and getattr(self, needs) is None:
                raise ValueError(f"{name} is {getattr(self, name)!r}, which needs `{needs}`.")
        if self.num == {}:
            raise ValueError("num is an empty mapping; expected such as {train: 5000, validation: 1000}.")
