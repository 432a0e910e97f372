# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Detects queries that are also in the pool under another id, or rows and queries in two splits."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from datasets import Dataset

from .arguments import DataArguments
from .base_task import BaseTask
from .images import content_hash, content_sizes, undecoded


logger = logging.getLogger(__name__)


@dataclass
class Overlap:
    """Copies of queries in a pool: examples with the content of a query and another id."""

    on_overlap: str = "raise"  #: What happens to the copies: `"raise"`, `"exclude"` or `"allow"`.
    copies: dict[str, list[str]] = field(default_factory=dict)  #: Ids in the pool, by the id of the query.

    @property
    def excluded(self) -> dict[str, list[str]]:
        """The copies that must not be candidates of a query."""
        return self.copies if self.on_overlap == "exclude" else {}

    def check(self, candidate_ids: Mapping[str, Sequence[str]], beams: str) -> None:
        """Raises `ValueError` if candidates of existing beams contain the query itself or an excluded copy."""
        for query_id, candidates in candidate_ids.items():
            wrong = {query_id, *self.excluded.get(query_id, ())} & set(candidates)
            if wrong:
                message = f"{beams!r} offers the query {query_id!r} the candidate {min(wrong)!r}, which has its"
                raise ValueError(
                    f"{message} content. Search again with this on_overlap, or set it to allow here, too."
                )


NO_OVERLAP = Overlap()


def check_overlap(pool: Dataset, queries: Dataset, task: BaseTask, data_args: DataArguments, split: str) -> Overlap:
    """The queries that are in the pool under another id; raises `ValueError` for them if `on_overlap` is raise."""
    overlap = Overlap(data_args.on_overlap, find_copies(pool, queries, task))
    if not overlap.copies:
        return overlap
    query_id, copies = next(iter(overlap.copies.items()))
    message = f"{len(overlap.copies)} of {len(queries)} queries of split {split!r} are in the pool (split "
    message += f"{data_args.pool_split!r}) under another id, with the same image, question and answer, "
    message += f"e.g. {query_id!r} as {copies[0]!r}"
    if overlap.on_overlap == "raise":
        remedy = "Set `on_overlap: exclude` to exclude the copies of a query from its candidates, or `allow` to keep"
        raise ValueError(f"{message}. {remedy} them.")
    logger.warning("%s; on_overlap is %s.", message, overlap.on_overlap)
    return overlap


def overlap_facts(overlaps: Mapping[str, Overlap]) -> dict[str, dict]:
    """The provenance of the splits that have an overlap."""
    facts = {}
    for split, overlap in overlaps.items():
        if overlap.copies:
            copies = {copy for own in overlap.copies.values() for copy in own}
            counts = {"queries": len(overlap.copies), "pool_examples": len(copies)}
            facts[split] = {"on_overlap": overlap.on_overlap, **counts}
    return {"overlap": facts} if facts else {}


def check_disjoint(examples: Dataset, queries: Dataset, split: str, query_split: str) -> None:
    """Raises `ValueError` if an id names different rows of the source in two tables of [`load_examples`]; a row may be
    in both, as in overlapping slices of a split."""
    shared = sorted(set(examples["id"][:]) & set(queries["id"][:]))
    odd = [identifier for identifier in shared if examples.source_of[identifier] != queries.source_of[identifier]]
    if odd:
        message = f"{len(odd)} ids are in both {split!r} and {query_split!r} for different rows, e.g. {odd[:3]}. Leave"
        raise ValueError(f"{message} the rows out, make ids unique, or map others: `columns: {{id: THEIR_NAME}}`.")


def check_distinct(known: Mapping[str, Dataset], queries: Dataset, split: str) -> None:
    """Raises `ValueError` if queries of a split are also in another split, or slice, of queries."""
    for name, others in known.items():
        shared = sorted(set(others["id"][:]) & set(queries["id"][:]))
        if shared:
            message = f"{len(shared)} queries are in both {name!r} and {split!r}, e.g. {shared[:3]}"
            raise ValueError(f"{message}. Name splits or slices that share no example.")


def find_copies(pool: Dataset, queries: Dataset, task: BaseTask) -> dict[str, list[str]]:
    """Ids of the pool's examples with the same image bytes, question text and answer as a query, and another id, by
    the id of the query. An image is read only if its size and the texts are the same."""
    query_keys, pool_keys = _keys(queries, task), _keys(pool, task)
    common = set(query_keys) & set(pool_keys)
    by_content: dict[tuple, list[str]] = defaultdict(list)
    for identifier, content in _contents(pool, pool_keys, common):
        by_content[content].append(identifier)
    copies = {}
    for query_id, content in _contents(queries, query_keys, common):
        ids = [identifier for identifier in by_content[content] if identifier != query_id]
        if ids:
            copies[query_id] = ids
    return copies


def _keys(examples: Dataset, task: BaseTask) -> list[tuple]:
    """The question text, the answer and the size of the image of each example."""
    rows = zip(examples.remove_columns(["image", "answers"]), content_sizes(examples), strict=True)
    return [(task.question_text(row).strip(), row["answer"].strip(), size) for row, size in rows]


def _contents(examples: Dataset, keys: list[tuple], common: set[tuple]) -> Iterator[tuple[str, tuple]]:
    """Id and content of the examples whose key is in `common`."""
    rows = [row for row, key in enumerate(keys) if key in common]
    selected = undecoded(examples.select_columns(["id", "image"])).select(rows)
    for row, example in zip(rows, selected, strict=True):
        yield example["id"], (keys[row], content_hash(example["image"]))
