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

"""
Stage `prepare`: a published dataset as an examples table, from its official files or from the hub.

```bash
leverplus prepare --dataset okvqa --root /data/okvqa --image_root /data/coco --output_dir outputs/okvqa/examples
```

Writes a dataset folder, and `missing_images.txt` or `broken_images.txt` if image files were not there or no images.
A recipe of this stage that has a `script` runs that script instead.
"""

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import yaml
from datasets import Dataset
from jinja2 import Environment, PackageLoader, StrictUndefined
from trl import TrlParser

from ..data_sources import (
    DATA_SOURCES,
    DataSource,
    PreparedSplit,
    RawFiles,
    cut_splits,
    find_problems,
    finish,
    read_files,
    read_hub,
)
from ..launch import start_stage
from ..provenance import dataset_fingerprint
from ..run_folder import RunFolder
from ..tables import write_tables
from .stage_arguments import StageArguments


logger = logging.getLogger("leverplus_trl.scripts.prepare")  # as a module that is run, __name__ is "__main__"

ON_BAD_EXAMPLE = ("skip", "raise")


@dataclass
class PrepareArguments:
    """
    Which dataset, from where, and how much of it.

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

    dataset: str = field(metadata={"help": " | ".join(DATA_SOURCES)})
    output_dir: str = field(metadata={"help": "Where the dataset folder is written."})
    root: str | None = field(default=None, metadata={"help": "Folder of the official files."})
    image_root: str | None = field(default=None, metadata={"help": "Folder of the image folders; default: root."})
    hub_id: str | None = field(default=None, metadata={"help": "Hub dataset to read instead of official files."})
    hub_config: str | None = field(default=None, metadata={"help": "Its configuration."})
    hub_revision: str | None = field(default=None, metadata={"help": "Its revision."})
    splits: list[str] | None = field(default=None, metadata={"help": "Splits to prepare; default: all with answers."})
    num: dict | str | None = field(
        default=None, metadata={"help": "Examples of each split, or a mapping such as {train: 5000}; default: all."}
    )
    seed: int = field(default=0, metadata={"help": "Decides about the order of the rows, and which ones num takes."})
    holdout: int | None = field(
        default=None, metadata={"help": "Cut so many examples off the first split, sharing no image with it."}
    )
    embed_images: bool = field(default=False, metadata={"help": "Take image files into the table."})
    on_bad_example: str = field(default="skip", metadata={"help": "skip | raise: what to do with unusable examples."})
    allow_other_counts: bool = field(
        default=False, metadata={"help": "Take files with another number of records than the official ones."}
    )

    def __post_init__(self):
        if self.dataset not in DATA_SOURCES:
            raise ValueError(f"dataset is {self.dataset!r}; expected one of {', '.join(DATA_SOURCES)}.")
        if (self.root is None) == (self.hub_id is None):
            raise ValueError(
                f"root is {self.root!r} and hub_id {self.hub_id!r}: set one of them, the folder of the official files "
                "or the hub dataset."
            )
        for name, needs in (("image_root", "root"), ("hub_config", "hub_id"), ("hub_revision", "hub_id")):
            if getattr(self, name) is not None and getattr(self, needs) is None:
                raise ValueError(f"{name} is {getattr(self, name)!r}, which needs `{needs}`.")
        known = list(DATA_SOURCES[self.dataset].counts)
        for split in self.splits or ():
            if split not in known:
                raise ValueError(f"splits names {split!r}; {self.dataset} has {', '.join(known)} with answers.")
        given = self.num
        if isinstance(given, str) and given.isdecimal():  # on the command line
            self.num = int(given)
        elif isinstance(given, str) and given.startswith("{"):
            with suppress(yaml.YAMLError):  # what can't be read stays text, which is refused
                self.num = yaml.safe_load(given)
        numbers = list(self.num.values()) if isinstance(self.num, Mapping) else [self.num]
        if given is not None and not (numbers and all(type(number) is int and number >= 1 for number in numbers)):
            raise ValueError(
                f"num is {given!r}; expected 1 or more examples, or such a number for each split, as in "
                "`{train: 5000, validation: 1000}`."
            )
        if self.holdout is not None and self.holdout < 1:
            raise ValueError(f"holdout is {self.holdout}; expected 1 or more.")
        if self.on_bad_example not in ON_BAD_EXAMPLE:
            raise ValueError(
                f"on_bad_example is {self.on_bad_example!r}; expected one of {', '.join(ON_BAD_EXAMPLE)}."
            )


def make_parser() -> TrlParser:
    return TrlParser(
        (StageArguments, PrepareArguments),
        prog="leverplus prepare",
        description="Make an examples table of a published dataset, from its official files or from the hub.",
    )


def main(stage_args: StageArguments, args: PrepareArguments) -> None:
    start_stage(stage_args, "prepare")
    source = DATA_SOURCES[args.dataset]
    splits = args.splits or list(source.counts)
    if args.root is not None:
        raw = RawFiles(args.root, args.image_root, args.allow_other_counts)
        rows, facts = read_files(source, raw, splits), {"files": raw.digests}
    else:
        hub = (args.hub_id, args.hub_config, args.hub_revision)
        rows = read_hub(source, *hub, splits, args.allow_other_counts)
        facts = {"rows": {split: dataset_fingerprint(table, ["id", "answer"]) for split, table in rows.items()}}
    # Where files are read anyway, a look into them costs little.
    prepared = find_problems(source, rows, args.on_bad_example, args.embed_images or args.holdout is not None)
    usable = {split: one.table for split, one in prepared.items()}
    tables = cut_splits(usable, args.seed, args.holdout, args.num)
    logger.info("%s: %s.", source.title, ", ".join(f"{len(table)} {split}" for split, table in tables.items()))
    if stage_args.dry_run:
        return
    run = RunFolder(args.output_dir, "prepare", asdict(stage_args) | asdict(args), facts)
    write(run, source, prepared, tables, args)
    logger.info("The examples are in %s.", run.path)


def write(
    run: RunFolder,
    source: DataSource,
    prepared: Mapping[str, PreparedSplit],
    tables: Mapping[str, Dataset],
    args: PrepareArguments,
) -> None:
    """Writes the dataset folder and the lists of missing and broken images."""
    for name in ("missing_images", "broken_images"):
        images = [(split, *image) for split, one in prepared.items() for image in getattr(one, name)]
        listing = run.path / f"{name}.txt"
        if images:
            listing.write_text("".join("\t".join(image) + "\n" for image in images), encoding="utf-8")
        else:
            listing.unlink(missing_ok=True)  # of an earlier run
    embed = args.embed_images and args.root is not None and source.has_images
    scratch = run.path / ".embedding"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    finished = {split: finish(table, scratch / f"{split}.arrow", embed) for split, table in tables.items()}
    environment = Environment(
        loader=PackageLoader("leverplus_trl"), undefined=StrictUndefined, keep_trailing_newline=False
    )
    text = environment.get_template("prepared_dataset.md.jinja").render(
        source=source,
        prepared=prepared,
        tables=tables,
        seed=args.seed,
        origin=f"the official files {', '.join(run.provenance['facts']['files'])}" if args.root else args.hub_id,
        embedded=embed or args.hub_id is not None,
    )
    write_tables(run.path, {"default": finished}, source.title, text, run.provenance)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(*make_parser().parse_args_and_config())
