# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Stage `prepare`: a published dataset as an examples table, from its official files or from the hub.

Writes a dataset folder, and `missing_images.txt` or `broken_images.txt` if image files were not there or no images.
A recipe of this stage that has a `script` runs that script instead.
"""

import logging
from dataclasses import asdict
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..data_sources import DATA_SOURCES, RawFiles
from ..data_sources.preparation import cut_splits, find_problems, finish
from ..data_sources.reading import read_files, read_hub
from ..launch import start_stage
from ..output_files import UNFINISHED, delete, naming, write_atomically
from ..provenance import dataset_hash
from ..recipe import UsageError
from ..run_folder import RunFolder
from ..stage_arguments import StageArguments
from ..tables import write_tables
from . import parsers
from .arguments import PrepareArguments


logger = logging.getLogger(__name__)

make_parser = partial(parsers.make_parser, "prepare")


def main(stage_args: StageArguments, args: PrepareArguments) -> None:
    start_stage(stage_args, "prepare")
    source = DATA_SOURCES[args.dataset]
    splits = args.splits or list(source.counts)
    for split in splits:
        if split not in source.counts:
            raise UsageError(f"splits names {split!r}; {args.dataset} has {', '.join(source.counts)} with answers.")
    if args.root is not None:
        raw = RawFiles(args.root, args.image_root, args.allow_other_counts)
        rows, facts = read_files(source, raw, splits), {"files": raw.hashes}
    else:
        hub = args.hub_id, args.hub_config, args.hub_revision
        rows = read_hub(source, *hub, splits, args.allow_other_counts)
        facts = {"rows": {split: dataset_hash(table, ["id", "answer"]) for split, table in rows.items()}}
    # Where files are read anyway, a look into them costs little.
    prepared = find_problems(source, rows, args.on_bad_example, args.embed_images or args.holdout is not None)
    usable = {split: of_split.table for split, of_split in prepared.items()}
    tables = cut_splits(usable, args.seed, args.holdout, args.num)
    logger.info("%s: %s.", source.title, ", ".join(f"{len(table)} {split}" for split, table in tables.items()))
    if stage_args.dry_run:
        return
    run = RunFolder(args.output_dir, "prepare", asdict(stage_args) | asdict(args), facts)
    for name in ("missing_images", "broken_images"):
        images = [(split, *image) for split, of_split in prepared.items() for image in getattr(of_split, name)]
        listing = run.path / f"{name}.txt"
        if images:
            write_atomically(listing, "".join("\t".join(image) + "\n" for image in images).encode())
        else:
            listing.unlink(missing_ok=True)  # of an earlier run
    embed = args.embed_images and args.root is not None and source.has_images
    scratch = run.path / f"{UNFINISHED}images"
    scratch.mkdir()
    with naming(scratch):
        finished = {split: finish(table, scratch / f"{split}.arrow", embed) for split, table in tables.items()}
    environment = Environment(loader=PackageLoader("leverplus_trl"), undefined=StrictUndefined)
    text = environment.get_template("prepared_dataset.md.jinja").render(
        source=source,
        prepared=prepared,
        tables=tables,
        seed=args.seed,
        origin=f"the official files {', '.join(run.provenance['facts']['files'])}" if args.root else args.hub_id,
        embedded=embed or args.hub_id is not None,
    )
    write_tables(run.path, {"default": finished}, source.title, text, run.provenance)
    delete(scratch)
    logger.info("The examples are in %s.", run.path)


if __name__ == "__main__":
    parsers.run_script("prepare")
