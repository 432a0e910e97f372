# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From the rows of a source to the splits of an examples table: drops bad examples, shuffles, and cuts to size."""

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image
from datasets import Dataset
from datasets.table import embed_table_storage

from ..log import progress
from ..schema import EXAMPLES
from ..tasks.images import content_hash
from .data_source import DataSource


logger = logging.getLogger(__name__)

#: Name of the split that is cut off the first split.
HOLDOUT = "holdout"
EMBEDDED_AT_ONCE = 64
MISSING = "its image is missing"
NO_IMAGE = "its image can't be opened"


@dataclass
class PreparedSplit:
    """A split of which the examples that can't be used are left out."""

    table: Dataset  #: The usable examples, with undecoded images.
    total: int  #: Number of examples before any are left out.
    problems: dict[str, list[str]] = field(default_factory=dict)  #: Ids of the examples left out, by reason.
    missing_images: list[tuple[str, str]] = field(default_factory=list)  #: Id and path, not in `problems`.
    broken_images: list[tuple[str, str]] = field(default_factory=list)  #: Id and path, also in `problems`.
    odd_annotators: int = 0  #: Usable examples with another number of answers than the official metric expects.

    @property
    def left_out(self) -> int:
        return len(self.missing_images) + sum(map(len, self.problems.values()))


def find_problems(
    source: DataSource, tables: Mapping[str, Dataset], on_bad_example: str, open_files: bool = False
) -> dict[str, PreparedSplit]:
    """
    Leaves out and counts the examples that can't be used, from the rows of [`read_files`] or [`read_hub`] by split.
    `open_files` also opens the image files that examples refer to. Raises `ValueError` if an id appears twice, a split
    has no usable example, or has a bad example and `on_bad_example` is `"raise"`.
    """
    split_of: dict[str, str] = {}
    for split, table in tables.items():
        for identifier, problem in zip(table["id"][:], table["problem"][:], strict=True):
            if not problem and identifier in split_of:
                message = f"The id {identifier!r} appears twice, in {split_of[identifier]!r} and in {split!r}"
                raise ValueError(f"{message}. Are two versions of the dataset mixed?")
            if not problem:
                split_of[identifier] = split
    splits = {}
    for split, table in tables.items():
        prepared = splits[split] = _usable(source, table, open_files)
        reasons = []
        for reason, ids in prepared.problems.items():
            named = "id " + ", ".join(map(repr, ids[:3])) + ", ..." * (len(ids) > 3)
            reasons.append(f"{len(ids)} because {reason} ({named})")
            message = "%s: %d of %d examples are left out: %s (%s)."
            logger.warning(message, split, len(ids), prepared.total, reason, named)
        number = len(prepared.missing_images)
        if number:
            files = list(dict.fromkeys(path for _, path in prepared.missing_images))
            reasons.append(f"{number} because their image is missing, e.g. {files[0]!r}")
            message = "%s: %d of %d examples are left out because their image is missing. Missing files (%d): %s"
            named = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
            logger.warning(message, split, number, prepared.total, len(files), named)
        total, why = f"{prepared.total} examples of split {split!r}", "; ".join(reasons)
        if prepared.left_out and on_bad_example == "raise":
            remedy = "Fix them, or set `on_bad_example: skip` to leave them out."
            raise ValueError(f"{prepared.left_out} of {total} can't be used: {why}. {remedy}")
        if not len(prepared.table):
            raise ValueError(f"None of the {total} can be used: {why}.")
    return splits


def _usable(source: DataSource, table: Dataset, open_files: bool) -> PreparedSplit:
    prepared, kept = PreparedSplit(table, len(table)), []
    faults: dict[str, str] = {}  # by path; several examples may refer to an image file
    for place, (identifier, problem, image) in enumerate(_rows(table, ["id", "problem", "image"])):
        path = image and image["path"]
        if problem or not source.has_images:
            pass
        elif image is None:
            problem = "it has no image"
        elif image["bytes"] is not None or path is None:
            problem = "" if _is_image(io.BytesIO(image["bytes"])) else NO_IMAGE
        else:
            if path in faults:
                problem = faults[path]
            elif not os.path.isfile(path):
                problem = MISSING
            elif not os.path.getsize(path):
                problem = "its image file is empty"
            elif open_files and not _is_image(path):
                problem = NO_IMAGE
            faults[path] = problem
            if problem:
                images = prepared.missing_images if problem == MISSING else prepared.broken_images
                images.append((identifier, path))
        if not problem:
            kept.append(place)
        elif problem != MISSING:
            prepared.problems.setdefault(problem, []).append(identifier)
    prepared.table = table.select(kept).remove_columns("problem")
    if source.num_annotators is not None:
        odd = sum(len(answers) != source.num_annotators for answers in prepared.table["answers"][:])
        prepared.odd_annotators = odd
        if odd:
            logger.warning("%d examples don't have %d answers each; they are kept.", odd, source.num_annotators)
    return prepared


def _rows(table: Dataset, columns: list[str]) -> Iterator[tuple]:
    """The values of some columns by row, in batches, which hold copies of the images of 64 rows."""
    for batch in table.select_columns(columns).iter(batch_size=EMBEDDED_AT_ONCE):
        yield from zip(*(batch[name] for name in columns), strict=True)


def _is_image(file: str | io.BytesIO) -> bool:
    try:
        with PIL.Image.open(file):  # reads only the header
            return True
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):  # plugins raise all of these
        return False


def cut_splits(
    tables: Mapping[str, Dataset], seed: int, holdout: int | None = None, num: int | Mapping[str, int] | None = None
) -> dict[str, Dataset]:
    """
    Shuffles every split and takes its first rows. The order depends only on the seed and the ids, so a smaller subset
    is the beginning of a larger subset.

    `holdout` moves at least this number of examples from the first split to a new split `holdout`; examples with the
    same image (by its bytes) stay together. `num` is the maximum number of examples of every split, or exact numbers
    for the splits that it names. Raises `ValueError` if a split has fewer examples than `holdout` or `num` names.
    """
    cut = dict(tables)
    if holdout:
        first = next(iter(tables))
        cut[first], cut[HOLDOUT] = _hold_out(tables[first], holdout, seed, first)
    sizes = num if isinstance(num, Mapping) else {}
    unknown = sorted(set(sizes) - set(cut))
    if unknown:
        raise ValueError(f"num names the split {unknown[0]!r}; there are {', '.join(cut)}.")
    for split, table in cut.items():
        size = sizes.get(split, len(table))
        if isinstance(num, int) and num:
            size = min(num, len(table))
        if size > len(table):
            raise ValueError(f"num asks for {size} examples of split {split!r}, which has {len(table)} to use.")
        cut[split] = table.select(_order(table["id"][:], seed)[:size])
    return cut


def _hold_out(table: Dataset, number: int, seed: int, split: str) -> tuple[Dataset, Dataset]:
    if number >= len(table):
        raise ValueError(f"holdout is {number}, but split {split!r} has {len(table)} examples to cut it from.")
    # By the hash of the image file, so that copies under other names (as in ScienceQA) are equal, or by the id.
    groups: dict[str, list[int]] = {}
    with progress(logger, "Comparing images", len(table), "example") as bar:
        for place, (identifier, image) in enumerate(_rows(table, ["id", "image"])):
            bar.update(place + 1)
            groups.setdefault(content_hash(image) or identifier, []).append(place)
    names = list(groups)
    held: set[int] = set()
    for place in _order([f"{HOLDOUT} {name}" for name in names], seed):
        if len(held) >= number:
            break
        held.update(groups[names[place]])
    if len(held) == len(table):
        raise ValueError(f"holdout is {number}, and all {len(table)} examples of split {split!r} have the same image.")
    return table.select([place for place in range(len(table)) if place not in held]), table.select(sorted(held))


def _order(names: Sequence[str], seed: int) -> list[int]:
    keys = [hashlib.sha256(json.dumps([seed, name]).encode()).digest() for name in names]
    return sorted(range(len(keys)), key=keys.__getitem__)


def finish(table: Dataset, scratch: Path, embed_images: bool) -> Dataset:
    """Returns a split of [`cut_splits`] with an `Image` column. With `embed_images` the table holds the images' bytes,
    else their absolute paths; `scratch` is a temporary file for the bytes."""
    table = table.cast_column("image", EXAMPLES["image"])
    if not embed_images:
        return table
    # On disk, not in memory: a COCO split has tens of gigabytes.
    embedded = table.with_format("arrow").map(
        embed_table_storage,
        batched=True,
        batch_size=EMBEDDED_AT_ONCE,
        writer_batch_size=EMBEDDED_AT_ONCE,
        features=table.features,
        cache_file_name=str(scratch),
        desc="Embedding images",
    )
    return embedded.with_format(None)
