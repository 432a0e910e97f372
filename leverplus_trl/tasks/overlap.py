# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Queries that are in the pool under another id: found by what is shown of them, and not offered to themselves."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from datasets import Dataset

from .base_task import BaseTask
from .data_arguments import DataArguments
from .images import content_hash, content_sizes, undecoded


logger = logging.getLogger(__name__)


@dataclass
class Overlap:
    """
    The examples of a pool that have the content of a query, and another id.

    Args:
        on_overlap (`str`, *optional*, defaults to `"raise"`):
            What becomes of them: `"raise"`, `"exclude"` or `"allow"`.
        copies (`dict[str, list[str]]`, *optional*):
            Ids in the pool by the id of the query, of the queries that have any.
    """

    on_overlap: str = "raise"
    copies: dict[str, list[str]] = field(default_factory=dict)

    @property
    def excluded(self) -> dict[str, list[str]]:
        """What a query must not be offered, beside itself."""
        return self.copies if self.on_overlap == "exclude" else {}

    def facts(self) -> dict[str, int | str]:
        """What a provenance says of it."""
        examples = {copy for copies in self.copies.values() for copy in copies}
        return {"on_overlap": self.on_overlap, "queries": len(self.copies), "pool_examples": len(examples)}

    def check(self, candidate_ids: Mapping[str, Sequence[str]], beams: str) -> None:
        """Raises `ValueError` if candidates that were drawn earlier hold the query itself or what is excluded."""
        for query_id, candidates in candidate_ids.items():
            wrong = {query_id, *self.excluded.get(query_id, ())} & set(candidates)
            if wrong:
                raise ValueError(
                    f"{beams!r} offers the query {query_id!r} the candidate {min(wrong)!r}, which has its content. "
                    "Search the beams again with this on_overlap, or set `on_overlap: allow` here, too."
                )


NO_OVERLAP = Overlap()


def check_overlap(pool: Dataset, queries: Dataset, task: BaseTask, data_args: DataArguments, split: str) -> Overlap:
    """
    Looks for queries that are in the pool under another id.

    Args:
        pool (`Dataset`):
            Examples that demonstrations are taken from.
        queries (`Dataset`):
            Examples that are asked.
        task ([`BaseTask`]):
            Says what is shown of an example.
        data_args ([`DataArguments`]):
            `on_overlap` and the name of the pool.
        split (`str`):
            Name of the queries' split.

    Raises:
        `ValueError`: there are some, and `on_overlap` is `raise`.
    """
    overlap = Overlap(data_args.on_overlap, find_copies(pool, queries, task))
    if not overlap.copies:
        return overlap
    query_id, copies = next(iter(overlap.copies.items()))
    found = (
        f"{len(overlap.copies)} of {len(queries)} queries of split {split!r} are in the pool (split "
        f"{data_args.pool_split!r}) under another id, with the same image, question and answer, e.g. {query_id!r} as "
        f"{copies[0]!r}"
    )
    if overlap.on_overlap == "raise":
        raise ValueError(
            f"{found}. Set `on_overlap: exclude` to offer a query none of its copies, or `on_overlap: allow` to offer "
            "them, as some published settings do."
        )
    logger.warning("%s; on_overlap is %s.", found, overlap.on_overlap)
    return overlap


def overlap_facts(overlaps: Mapping[str, Overlap]) -> dict[str, dict]:
    """What a provenance says of the splits that have an overlap."""
    found = {split: overlap.facts() for split, overlap in overlaps.items() if overlap.copies}
    return {"overlap": found} if found else {}


def find_copies(pool: Dataset, queries: Dataset, task: BaseTask) -> dict[str, list[str]]:
    """
    Ids of the pool's examples that show the same as a query (the same bytes of an image, question and answer) and
    have another id, by the id of the query.

    An image is only read if the text and the size of the image are the same.
    """
    asked, offered = (list(zip(_texts(table, task), content_sizes(table), strict=True)) for table in (queries, pool))
    common = set(asked) & set(offered)
    by_content: dict[tuple, list[str]] = defaultdict(list)
    for identifier, content in _contents(pool, offered, common):
        by_content[content].append(identifier)
    copies = {
        query_id: [identifier for identifier in by_content[content] if identifier != query_id]
        for query_id, content in _contents(queries, asked, common)
    }
    return {query_id: ids for query_id, ids in copies.items() if ids}


def _texts(examples: Dataset, task: BaseTask) -> Iterator[tuple[str, str]]:
    """What is shown of each example beside its image."""
    shown = examples.remove_columns(["image", "answers"])
    return ((task.question_text(row).strip(), row["answer"].strip()) for row in shown)


def _contents(examples: Dataset, keys: list[tuple], common: set[tuple]) -> Iterator[tuple[str, tuple]]:
    """Id and content of the examples that have one of the common keys."""
    rows = [row for row, key in enumerate(keys) if key in common]
    some = undecoded(examples.select_columns(["id", "image"])).select(rows)
    return ((one["id"], (keys[row], content_hash(one["image"]))) for row, one in zip(rows, some, strict=True))
