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

"""A few queries with what each method chose for them and what the VLM answered, as plain data for the page.

Which queries are shown is decided by a hash of their ids, never by what came out.
"""

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence

from datasets import Dataset
from PIL import Image, ImageOps

from ..evaluation.evaluation import ORACLE, POOL_SUFFIX, RANDOM, SIMILARITIES, method_rank
from .tables import average_rows, headline_shots, method_label


THUMBNAIL = 192  # longest side in pixels: sharp at the 96 px that the page shows, on a screen of double density


def gallery_query_ids(query_ids: Iterable[str], num_queries: int) -> list[str]:
    """The first `num_queries` ids in the order of their SHA-256 hashes: the same in every run, blind to results."""
    return sorted(set(query_ids), key=lambda query_id: hashlib.sha256(query_id.encode()).digest())[:num_queries]


def gallery_methods(results: Mapping, shots: int) -> list[str]:
    """Selectors, most accurate similarity baseline (either scope), random and oracle, where they have such shots."""
    rows = average_rows(results)
    everywhere = [name + suffix for name in SIMILARITIES for suffix in ("", POOL_SUFFIX)]
    similarities = [method for method in everywhere if (method, shots) in rows]
    # Ties go to the order of the tables, so that the choice does not hang on the order of rows.
    best = sorted(similarities, key=lambda method: (-rows[method, shots]["accuracy"], method_rank(method)))[:1]
    return [method for method in (*results["selectors"], *best, RANDOM, ORACLE) if (method, shots) in rows]


def image_data_uri(image: Image.Image | None) -> str | None:
    """
    A thumbnail of an image as a PNG data URI.

    The pixels are drawn onto a new image, so nothing else of the source file (metadata, profiles) reaches the page.

    Args:
        image (`PIL.Image.Image`, *optional*):
            Any mode; transparency becomes white. `None` gives `None`.
    """
    if image is None:
        return None
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    upright.thumbnail((THUMBNAIL, THUMBNAIL))
    clean = Image.new("RGB", upright.size, "white")
    clean.paste(upright, mask=upright.getchannel("A"))
    out = io.BytesIO()
    clean.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def verdict(accuracy: float) -> str:
    """`"right"`, `"wrong"` or, for metrics that give part of the credit, `"partly right"`."""
    return "right" if accuracy >= 1.0 else "wrong" if accuracy <= 0.0 else "partly right"


def build_gallery(
    results: Mapping, predictions: Dataset, queries: Dataset, pool: Dataset, num_queries: int
) -> dict[str, object]:
    """
    Collects the queries to show with each method's demonstrations and answers.

    Args:
        results (`Mapping`):
            Content of `results.json`.
        predictions (`Dataset`):
            The predictions it was made from, columns of `schema.PREDICTIONS`.
        queries (`Dataset`):
            Examples of the query split, columns of `schema.EXAMPLES`.
        pool (`Dataset`):
            Examples that demonstrations were chosen from.
        num_queries (`int`):
            How many queries to show.

    Returns:
        `dict`: `shots`, `num_all` (queries in the table) and `queries`: each `id`, `image`, `question`, `expected` and
        `methods`: each `label`, `demonstrations` in prompt order (`image`, `question`, `answer`), `prediction`,
        `accuracy` and `verdict`. Images are data URIs or null.

    Raises:
        `ValueError`: a query or a demonstration is not among the examples.
    """
    shots = headline_shots(results)
    methods = gallery_methods(results, shots) if shots else []
    columns = predictions.with_format(None).select_columns(["query_id", "method", "shots", "seed"])[:]
    shown = gallery_query_ids(columns["query_id"], num_queries)
    wanted: dict[tuple[str, str], tuple[int, int]] = {}  # (query, method) -> (seed, row): the first seed is shown
    keys = zip(columns["query_id"], columns["method"], columns["shots"], columns["seed"], strict=True)
    for row, (query_id, method, at, seed) in enumerate(keys):
        if query_id in shown and method in methods and at == shots:
            wanted[query_id, method] = min(wanted.get((query_id, method), (seed, row)), (seed, row))
    answered = {key: predictions[row] for key, (_, row) in wanted.items()}
    query_examples = _examples(queries, shown, "queries")
    chosen = [one for row in answered.values() for one in row["demonstration_ids"]]
    demonstrations = {
        identifier: {
            "image": image_data_uri(example["image"]),
            "question": example["question"],
            "answer": example["answer"],
        }
        for identifier, example in _examples(pool, chosen, "demonstrations").items()
    }
    return {
        "shots": shots,
        "num_all": len(set(columns["query_id"])),
        "queries": [
            _query_entry(query_examples[query_id], [answered[query_id, method] for method in methods], demonstrations)
            for query_id in shown
        ],
    }


def _examples(examples: Dataset, ids: Sequence[str], what: str) -> dict[str, dict]:
    places = {identifier: place for place, identifier in enumerate(examples["id"])}
    unknown = sorted(set(ids) - places.keys())
    if unknown:
        raise ValueError(
            f"{len(unknown)} {what} of the predictions are not among the {len(places)} examples, e.g. {unknown[:3]}. "
            "Name the dataset and the pool split that were evaluated."
        )
    return {identifier: examples[places[identifier]] for identifier in dict.fromkeys(ids)}


def _query_entry(query: Mapping, answered: Sequence[Mapping], demonstrations: Mapping[str, dict]) -> dict[str, object]:
    return {
        "id": query["id"],
        "image": image_data_uri(query["image"]),
        "question": query["question"],
        "expected": list(dict.fromkeys(query["answers"] or [query["answer"]])),
        "methods": [
            {
                "method": row["method"],
                "label": method_label(row["method"]),
                "demonstrations": [demonstrations[one] for one in row["demonstration_ids"]],
                "prediction": row["prediction"],
                "accuracy": row["accuracy"],
                "verdict": verdict(row["accuracy"]),
            }
            for row in answered
        ],
    }
