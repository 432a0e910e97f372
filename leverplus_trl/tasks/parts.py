# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Cuts a table into parts by a hash of the examples' content, so that equal examples are in the same part."""

import hashlib
import json
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

from datasets import Dataset

from ..provenance import json_hash
from .images import content_hash, file_states, undecoded


#: Part of the cache key: after a change of this file, the hashes are computed again.
_CODE = json_hash(Path(__file__).read_text(encoding="utf-8"))


def parts_of(examples: Dataset, fractions: Mapping[str, float]) -> dict[str, list[int]]:
    """
    Assigns the rows of an examples table to parts.

    Args:
        examples (`Dataset`):
            An examples table.
        fractions (`Mapping[str, float]`):
            Expected fraction of each part; their sum is 1.

    Returns:
        `dict[str, list[int]]`: rows in ascending order, by part. A hash of an example's image bytes, question and
        answer, scaled to 0..1, decides on its part. So the part depends neither on the id and the order nor on the
        other examples.

    Raises:
        `ValueError`: a part has no examples.
    """
    columns = ["image", "question", "answer"]
    stored = undecoded(examples.select_columns(columns))
    options = {"files": file_states(stored), "code": _CODE}
    shares = stored.map(_share, fn_kwargs=options, remove_columns=columns, desc="Cutting into parts")["share"][:]
    ends = list(accumulate(fractions.values()))[:-1]
    rows: dict[str, list[int]] = {name: [] for name in fractions}
    names = list(fractions)
    for row, share in enumerate(shares):
        rows[names[sum(share >= end for end in ends)]].append(row)
    empty = [name for name, own in rows.items() if not own]
    if empty:
        raise ValueError(
            f"split gives the part {empty[0]!r} none of the {len(examples)} examples, of which {len(set(shares))} are "
            "different. Give it a larger fraction, or cut the dataset by slices such as train[:60%]."
        )
    return rows


def _share(row: dict, files: str, code: str) -> dict[str, float]:
    texts = [(row[name] or "").strip() for name in ("question", "answer")]
    content = json.dumps([content_hash(row["image"]), *texts]).encode()
    return {"share": int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64}
