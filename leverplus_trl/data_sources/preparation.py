# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From the rows of a source to the splits of an examples table: what can be used, in which order, how many."""

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

from ..log import Progress
from ..schema import EXAMPLES
from .data_source import DataSource


logger = logging.getLogger(__name__)

#: Name of the split that is cut off the first one.
HOLDOUT = "holdout"
EMBEDDED_AT_ONCE = 64
MISSING = "its image is missing"
NO_IMAGE = "its image is not one that can be opened"


@dataclass
class PreparedSplit:
    """
    A split on its way.

    Args:
        table (`Dataset`):
            Its usable examples, images undecoded.
        found (`int`):
            How many there were.
        problems (`dict[str, list[str]]`, *optional*):
            Ids of those left out, by the reason.
        missing_images (`list[tuple[str, str]]`, *optional*):
            Id and path of those left out because their image is not there.
        broken_images (`list[tuple[str, str]]`, *optional*):
            Id and path of those among `problems` whose image file is there, but is no image.
        odd_annotators (`int`, *optional*, defaults to 0):
            How many of the usable ones don't have as many answers as the official metric expects.
    """

    table: Dataset
    found: int
    problems: dict[str, list[str]] = field(default_factory=dict)
    missing_images: list[tuple[str, str]] = field(default_factory=list)
    broken_images: list[tuple[str, str]] = field(default_factory=list)
    odd_annotators: int = 0

    @property
    def left_out(self) -> int:
        return len(self.missing_images) + sum(map(len, self.problems.values()))


def find_problems(
    source: DataSource, tables: Mapping[str, Dataset], on_bad_example: str, open_files: bool = False
) -> dict[str, PreparedSplit]:
    """
    Leaves out what can't be used.

    Args:
        source ([`DataSource`]):
            Where the rows are from.
        tables (`Mapping[str, Dataset]`):
            What [`read_files`] or [`read_hub`] gave.
        on_bad_example (`str`):
            `"skip"` leaves them out and counts them, `"raise"` refuses the first split that has any.
        open_files (`bool`, *optional*, defaults to `False`):
            Whether to look into image files, where an example refers to one; no file has to be opened otherwise.

    Raises:
        `ValueError`: an id stands twice, a split has nothing that can be used, or `on_bad_example` says so.
    """
    _refuse_duplicates(tables)
    found = {}
    for split, table in tables.items():
        prepared = found[split] = _usable(source, table, open_files)
        for reason, ids in prepared.problems.items():
            logger.warning(
                "%s: %d of %d examples are left out: %s (%s).", split, len(ids), prepared.found, reason, _named(ids)
            )
        if prepared.missing_images:
            files = list(dict.fromkeys(path for _, path in prepared.missing_images))
            logger.warning(
                "%s: %d of %d examples are left out because their image is missing. Missing files (%d): %s",
                *(split, len(prepared.missing_images), prepared.found, len(files)),
                ", ".join(files[:5]) + (", ..." if len(files) > 5 else ""),
            )
        if prepared.left_out and on_bad_example == "raise":
            raise ValueError(
                f"{prepared.left_out} of {prepared.found} examples of split {split!r} can't be used: "
                f"{_reasons(prepared)}. Mend them, or set `on_bad_example: skip` to leave them out."
            )
        if not len(prepared.table):
            raise ValueError(
                f"None of the {prepared.found} examples of split {split!r} can be used: {_reasons(prepared)}."
            )
    return found


def _refuse_duplicates(tables: Mapping[str, Dataset]) -> None:
    splits_of: dict[str, str] = {}
    for split, table in tables.items():
        for identifier, problem in zip(table["id"][:], table["problem"][:], strict=True):
            if problem:
                continue
            if identifier in splits_of:
                raise ValueError(
                    f"The id {identifier!r} stands twice, in {splits_of[identifier]!r} and in {split!r}. Are two "
                    "versions of the dataset mixed?"
                )
            splits_of[identifier] = split


def _usable(source: DataSource, table: Dataset, open_files: bool) -> PreparedSplit:
    problems: dict[str, list[str]] = {}
    missing, broken, kept = [], [], []
    faults: dict[str, str] = {}  # of image files, to which several examples may refer
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
    """What is wrong with an image file; empty if nothing is."""
    if not os.path.isfile(path):
        return MISSING
    if not os.path.getsize(path):
        return "its image file is empty"
    return NO_IMAGE if open_file and not _is_image(path) else ""


def _is_image(file: str | pa.BufferReader) -> bool:
    """Whether PIL knows the kind of image, for which it reads no more than the header."""
    try:
        with PIL.Image.open(file):
            return True
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):  # plugins raise all of these
        return False


def _images(table: Dataset) -> Iterator[tuple[bool, str | None, pa.Buffer | None]]:
    """
    Whether each example has an image, the path of one that is only referred to, and the bytes of one that is stored,
    which stay where they are.
    """
    for batch in table.select_columns("image").with_format("arrow").iter(1000):
        image = batch["image"]
        contents, paths = pc.struct_field(image, "bytes"), pc.struct_field(image, "path").to_pylist()
        for is_there, content, path in zip(pc.is_valid(image).to_pylist(), contents, paths, strict=True):
            content = content.as_buffer() if is_there else None
            yield is_there, path if is_there and content is None else None, content


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
    Puts every split into an order that depends on the seed and the ids alone, and takes its first rows; so a smaller
    subset is the beginning of a larger one.

    Args:
        tables (`Mapping[str, Dataset]`):
            Usable examples by split.
        seed (`int`):
            Decides about the order.
        holdout (`int`, *optional*):
            Cut at least that many examples off the first split, as a split `holdout` of their own. Examples of one
            image, by the content of its file, stay together.
        num (`int` or `Mapping[str, int]`, *optional*):
            Examples to take of each split that has more, or of those that are named.

    Raises:
        `ValueError`: more examples are asked for than there are.
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
        raise ValueError(f"holdout is {number}, and all {len(table)} examples of split {split!r} show one image.")
    taken = set(held)
    return table.select([place for place in range(len(table)) if place not in taken]), table.select(sorted(held))


def _image_names(table: Dataset) -> Iterator[str]:
    """The digest of each example's image file, by which copies under other names (as ScienceQA has) are the same on
    every machine; the id of an example without one."""
    known: dict[str, str] = {}
    bar = Progress(logger, "Comparing images", len(table), "example")
    for number, (identifier, (has_image, path, content)) in enumerate(
        zip(table["id"][:], _images(table), strict=True)
    ):
        bar.update(number + 1)
        if not has_image:
            yield identifier
        elif path is None:
            yield hashlib.sha256(content).hexdigest()
        else:
            if path not in known:
                with open(path, "rb") as file:
                    known[path] = hashlib.file_digest(file, "sha256").hexdigest()
            yield known[path]
    bar.close()


def _order(names: Sequence[str], seed: int) -> list[int]:
    keys = [hashlib.sha256(json.dumps([seed, name]).encode()).digest() for name in names]
    return sorted(range(len(keys)), key=keys.__getitem__)


def finish(table: Dataset, scratch: Path, embed_images: bool) -> Dataset:
    """
    The table as it is written: images an `Image` column, in the table itself or referred to by their absolute paths.

    Args:
        table (`Dataset`):
            One split of [`cut_splits`].
        scratch (`Path`):
            A file that may be used on the way.
        embed_images (`bool`):
            Whether image files are taken into the table.
    """
    table = table.cast_column("image", EXAMPLES["image"])
    if embed_images:
        # Kept out of memory: a COCO split has tens of gigabytes.
        table = table.with_format("arrow").map(
            embed_table_storage,
            batched=True,
            batch_size=EMBEDDED_AT_ONCE,
            writer_batch_size=EMBEDDED_AT_ONCE,
            features=table.features,
            cache_file_name=str(scratch),
            desc="Embedding images",
        )
        table = table.with_format(None)
    return table
