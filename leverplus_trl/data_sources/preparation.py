# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From the rows of a source to the splits of an examples table: drops bad examples, shuffles, and cuts to size."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from datasets.table import embed_table_storage

from ..log import progress
from ..schema import EXAMPLES
from ..tasks.images import content_hash, image_batches
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
    Leaves out the examples that can't be used.

    Args:
        source ([`DataSource`]):
            The dataset.
        tables (`Mapping[str, Dataset]`):
            The rows that [`read_files`] or [`read_hub`] returned, by split.
        on_bad_example (`str`):
            `"skip"` leaves bad examples out and counts them, `"raise"` refuses the first split that has any.
        open_files (`bool`, *optional*, defaults to `False`):
            Whether to open the image files that examples refer to.

    Raises:
        `ValueError`: an id appears twice, a split has no usable example, or has a bad one and `on_bad_example` is
            `"raise"`.
    """
    _refuse_duplicates(tables)
    splits = {}
    for split, table in tables.items():
        prepared = splits[split] = _usable(source, table, open_files)
        for reason, ids in prepared.problems.items():
            logger.warning(
                "%s: %d of %d examples are left out: %s (%s).", split, len(ids), prepared.total, reason, _named(ids)
            )
        if prepared.missing_images:
            files = list(dict.fromkeys(path for _, path in prepared.missing_images))
            logger.warning(
                "%s: %d of %d examples are left out because their image is missing. Missing files (%d): %s",
                *(split, len(prepared.missing_images), prepared.total, len(files)),
                ", ".join(files[:5]) + (", ..." if len(files) > 5 else ""),
            )
        if prepared.left_out and on_bad_example == "raise":
            raise ValueError(
                f"{prepared.left_out} of {prepared.total} examples of split {split!r} can't be used: "
                f"{_reasons(prepared)}. Fix them, or set `on_bad_example: skip` to leave them out."
            )
        if not len(prepared.table):
            raise ValueError(
                f"None of the {prepared.total} examples of split {split!r} can be used: {_reasons(prepared)}."
            )
    return splits


def _refuse_duplicates(tables: Mapping[str, Dataset]) -> None:
    splits_of: dict[str, str] = {}
    for split, table in tables.items():
        for identifier, problem in zip(table["id"][:], table["problem"][:], strict=True):
            if problem:
                continue
            if identifier in splits_of:
                raise ValueError(
                    f"The id {identifier!r} appears twice, in {splits_of[identifier]!r} and in {split!r}. Are two "
                    "versions of the dataset mixed?"
                )
            splits_of[identifier] = split


def _usable(source: DataSource, table: Dataset, open_files: bool) -> PreparedSplit:
    problems: dict[str, list[str]] = {}
    missing, broken, kept = [], [], []
    faults: dict[str, str] = {}  # by path; several examples may refer to an image file
    columns = (table["id"][:], table["problem"][:], _images(table))
    for place, (identifier, problem, (has_image, path, content)) in enumerate(zip(*columns, strict=True)):
        if not problem and source.has_images:
            if not has_image:
                problem = "it has no image"
            elif path is None:
                problem = "" if content is not None and _is_image(pa.BufferReader(content)) else NO_IMAGE
            else:
                if path not in faults:
                    faults[path] = _fault(path, open_files)
                if faults[path] == MISSING:
                    missing.append((identifier, path))
                    continue
                if faults[path]:
                    problem = faults[path]
                    broken.append((identifier, path))
        if problem:
            problems.setdefault(problem, []).append(identifier)
        else:
            kept.append(place)
    usable = table.select(kept).remove_columns("problem")
    odd = 0
    if source.num_annotators is not None:
        odd = sum(len(answers) != source.num_annotators for answers in usable["answers"][:])
        if odd:
            logger.warning("%d examples don't have %d answers each; they are kept.", odd, source.num_annotators)
    return PreparedSplit(usable, len(table), problems, missing, broken, odd)


def _fault(path: str, open_file: bool) -> str:
    """The problem of an image file, or an empty string."""
    if not os.path.isfile(path):
        return MISSING
    if not os.path.getsize(path):
        return "its image file is empty"
    return NO_IMAGE if open_file and not _is_image(path) else ""


def _is_image(file: str | pa.BufferReader) -> bool:
    """Whether PIL recognises the format; it reads only the header."""
    try:
        with PIL.Image.open(file):
            return True
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):  # plugins raise all of these
        return False


def _images(table: Dataset) -> Iterator[tuple[bool, str | None, pa.Buffer | None]]:
    """
    Whether each example has an image, the path if the table only refers to it, and the bytes if the table stores it.
    The bytes are not copied.
    """
    for images in image_batches(table):
        contents, paths = pc.struct_field(images, "bytes"), pc.struct_field(images, "path").to_pylist()
        for has_image, content, path in zip(pc.is_valid(images).to_pylist(), contents, paths, strict=True):
            content = content.as_buffer() if has_image else None
            yield has_image, path if has_image and content is None else None, content


def _named(ids: Sequence[str]) -> str:
    return "id " + ", ".join(map(repr, ids[:3])) + ", ..." * (len(ids) > 3)


def _reasons(prepared: PreparedSplit) -> str:
    reasons = [f"{len(ids)} because {reason} ({_named(ids)})" for reason, ids in prepared.problems.items()]
    if prepared.missing_images:
        reasons.append(
            f"{len(prepared.missing_images)} because their image is missing, e.g. {prepared.missing_images[0][1]!r}"
        )
    return "; ".join(reasons)


def cut_splits(
    tables: Mapping[str, Dataset], seed: int, holdout: int | None = None, num: int | Mapping[str, int] | None = None
) -> dict[str, Dataset]:
    """
    Shuffles every split and takes its first rows. The order depends only on the seed and the ids, so a smaller subset
    is the beginning of a larger subset.

    Args:
        tables (`Mapping[str, Dataset]`):
            Usable examples by split.
        seed (`int`):
            Seed of the order.
        holdout (`int`, *optional*):
            Moves at least this number of examples from the first split to a new split `holdout`. Examples with the
            same image (by its bytes) stay together.
        num (`int` or `Mapping[str, int]`, *optional*):
            Maximum number of examples of every split, or exact numbers for the splits that it names.

    Raises:
        `ValueError`: a split has fewer examples than `holdout` or `num` names.
    """
    cut = dict(tables)
    if holdout:
        first = next(iter(tables))
        cut[first], cut[HOLDOUT] = _hold_out(tables[first], holdout, seed, first)
    if isinstance(num, Mapping):
        wanted = num
    else:
        wanted = {split: min(num or len(table), len(table)) for split, table in cut.items()}
    unknown = sorted(set(wanted) - set(cut))
    if unknown:
        raise ValueError(f"num names the split {unknown[0]!r}; there are {', '.join(cut)}.")
    for split, table in cut.items():
        order = _order(table["id"][:], seed)
        number = wanted.get(split, len(table))
        if number > len(table):
            raise ValueError(f"num asks for {number} examples of split {split!r}, which has {len(table)} to use.")
        cut[split] = table.select(order[:number])
    return cut


def _hold_out(table: Dataset, number: int, seed: int, split: str) -> tuple[Dataset, Dataset]:
    if number >= len(table):
        raise ValueError(f"holdout is {number}, but split {split!r} has {len(table)} examples to cut it from.")
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(_image_names(table)):
        groups.setdefault(name, []).append(place)
    names = list(groups)
    held: list[int] = []
    for place in _order([f"{HOLDOUT} {name}" for name in names], seed):
        if len(held) >= number:
            break
        held += groups[names[place]]
    if len(held) == len(table):
        raise ValueError(f"holdout is {number}, and all {len(table)} examples of split {split!r} have the same image.")
    taken = set(held)
    return table.select([place for place in range(len(table)) if place not in taken]), table.select(sorted(held))


def _image_names(table: Dataset) -> Iterator[str]:
    """The hash of each example's image file, so that copies under other names (as in ScienceQA) are equal; the id of
    an example without an image."""
    with progress(logger, "Comparing images", len(table), "example") as bar:
        for number, example in enumerate(table.select_columns(["id", "image"])):
            bar.update(number + 1)
            yield content_hash(example["image"]) or example["id"]


def _order(names: Sequence[str], seed: int) -> list[int]:
    keys = [hashlib.sha256(json.dumps([seed, name]).encode()).digest() for name in names]
    return sorted(range(len(keys)), key=keys.__getitem__)


def finish(table: Dataset, scratch: Path, embed_images: bool) -> Dataset:
    """
    Returns a split of [`cut_splits`] with an `Image` column. With `embed_images` the table holds the images' bytes,
    else their absolute paths; `scratch` is a temporary file for the bytes.
    """
    table = table.cast_column("image", EXAMPLES["image"])
    if not embed_images:
        return table
    # On disk, not in memory: a COCO split has tens of gigabytes.
    return (
        table.with_format("arrow")
        .map(
            embed_table_storage,
            batched=True,
            batch_size=EMBEDDED_AT_ONCE,
            writer_batch_size=EMBEDDED_AT_ONCE,
            features=table.features,
            cache_file_name=str(scratch),
            desc="Embedding images",
        )
        .with_format(None)
    )
