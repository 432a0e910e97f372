# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the stage `prepare`."""

from dataclasses import dataclass, field

from ..data_sources.names import DATASETS
from ..fields import check_fields


ON_BAD_EXAMPLE = ("skip", "raise")


@dataclass
class PrepareArguments:
    """
    Dataset: which, from where, and how much of it.

    Args:
        dataset (`str`):
            Its name.
        output_dir (`str`):
            Where the dataset folder is written.
        root (`str`, *optional*):
            Folder of the official files.
        image_root (`str`, *optional*, defaults to `root`):
            Folder of the image folders, if they are elsewhere.
        hub_id (`str`, *optional*):
            Hub dataset to read instead of official files.
        hub_config, hub_revision (`str`, *optional*):
            Its configuration and revision.
        splits (`list[str]`, *optional*, defaults to all that have answers):
            Splits to prepare.
        num (`int` or `dict[str, int]`, *optional*):
            Examples to take of each split that has more, or of those named: `{train: 5000, validation: 1000}`.
        seed (`int`, *optional*, defaults to 0):
            Decides about the order of the rows, and so about which ones `num` takes.
        holdout (`int`, *optional*):
            Cut at least that many examples off the first split, as a split `holdout` that shares no image with it.
        embed_images (`bool`, *optional*, defaults to `False`):
            Take image files into the table, instead of referring to them.
        on_bad_example (`str`, *optional*, defaults to `"skip"`):
            `"skip"` leaves out what can't be used (no image file, no annotation, ...) and counts it, `"raise"` stops.
            Image files are looked into where they are read anyway: with `embed_images` or `holdout`.
        allow_other_counts (`bool`, *optional*, defaults to `False`):
            Take files that hold another number of records than the official ones.
    """

    dataset: str = field(metadata={"help": " | ".join(DATASETS), "choices": DATASETS})
    output_dir: str = field(metadata={"help": "Where the dataset folder is written.", "path": "folder"})
    root: str | None = field(default=None, metadata={"help": "Folder of the official files.", "path": "folder"})
    image_root: str | None = field(
        default=None, metadata={"help": "Folder of the image folders; default: root.", "path": "folder"}
    )
    hub_id: str | None = field(default=None, metadata={"help": "Hub dataset to read instead of official files."})
    hub_config: str | None = field(default=None, metadata={"help": "Its configuration."})
    hub_revision: str | None = field(default=None, metadata={"help": "Its revision."})
    splits: list[str] | None = field(
        default=None,
        metadata={"help": "Splits to prepare; default: all with answers.", "not_empty": True, "unique": True},
    )
    num: dict[str, int] | int | None = field(
        default=None,
        metadata={"help": "Examples of each split, or a mapping such as {train: 5000}; default: all.", "min": 1},
    )
    seed: int = field(
        default=0, metadata={"help": "Decides about the order of the rows, and which ones num takes.", "min": 0}
    )
    holdout: int | None = field(
        default=None,
        metadata={"help": "Cut so many examples off the first split, sharing no image with it.", "min": 1},
    )
    embed_images: bool = field(default=False, metadata={"help": "Take image files into the table."})
    on_bad_example: str = field(
        default="skip",
        metadata={"help": "skip | raise: what to do with unusable examples.", "choices": ON_BAD_EXAMPLE},
    )
    allow_other_counts: bool = field(
        default=False, metadata={"help": "Take files with another number of records than the official ones."}
    )

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
