# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Queries with their beams, what each method chose for them and what the VLM answered, as plain data for the page.

Which queries are shown is decided by a hash of their ids, never by what came out.
"""

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence

from datasets import Dataset
from PIL import Image, ImageOps

from ..evaluation.methods import METHODS, ORACLE, RANDOM, ZERO_SHOT, method_label, method_rank
from ..retrieval.sampler_arguments import SIMILARITIES
from .evaluations import Evaluation
from .tables import average_rows, headline_shots, metric_of


THUMBNAIL = 128  # longest side in pixels: sharp at the 64 px that the page shows, on a screen of double density
JPEG_QUALITY = 80


def gallery_query_ids(query_ids: Iterable[str], num_queries: int) -> list[str]:
    """The first `num_queries` ids in the order of their SHA-256 hashes: the same in every run, blind to results."""
    return sorted(set(query_ids), key=lambda query_id: hashlib.sha256(query_id.encode()).digest())[:num_queries]


def gallery_methods(results: Mapping, shots: int) -> list[str]:
    """
    What a query's card shows at first: selectors, the most accurate similarity baseline (either scope), random and
    oracle, where they have such shots, and zero-shot.
    """
    rows = average_rows(results)
    similarities = [name for name, row in METHODS.items() if row.sampler in SIMILARITIES and (name, shots) in rows]
    # Ties go to the order of the tables, so that the choice does not hang on the order of rows.
    best = sorted(similarities, key=lambda method: (-rows[method, shots]["accuracy"], method_rank(method)))[:1]
    named = [method for method in (*results["selectors"], *best, RANDOM, ORACLE) if (method, shots) in rows]
    return [*named, *([ZERO_SHOT] if (ZERO_SHOT, 0) in rows else [])]


def image_data_uri(image: Image.Image | None) -> str | None:
    """
    A thumbnail of an image as a data URI: PNG or JPEG, whichever is smaller.

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
    encoded = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": JPEG_QUALITY, "optimize": True})):
        out = io.BytesIO()
        clean.save(out, format=kind, **options)
        encoded.append((len(out.getvalue()), kind, out.getvalue()))
    _, kind, content = min(encoded, key=lambda one: one[0])  # a tie goes to the PNG, which loses nothing
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


class _Images:
    """Thumbnails by number, every picture once however many examples show it."""

    def __init__(self) -> None:
        self.uris: dict[str, int] = {}

    def number(self, image: Image.Image | None) -> int | None:
        uri = image_data_uri(image)
        return None if uri is None else self.uris.setdefault(uri, len(self.uris))


def build_gallery(
    evaluations: Sequence[Evaluation],
    queries: Dataset,
    pool: Dataset,
    num_queries: int,
    beams: Dataset | None = None,
) -> dict[str, object]:
    """
    Collects the queries to show with each method's demonstrations and answers.

    Args:
        evaluations (`Sequence[Evaluation]`):
            What was evaluated, all on the same queries.
        queries (`Dataset`):
            Examples of the query split, columns of `schema.EXAMPLES`.
        pool (`Dataset`):
            Examples that demonstrations were chosen from.
        num_queries (`int`):
            How many queries to show.
        beams (`Dataset`, *optional*):
            Beams, columns of `schema.BEAMS`; those of the queries are shown.

    Returns:
        `dict`: ready for JSON.
        - `shots`, `headline_shots`, `num_all` (queries in the table);
        - `metric`: its `title`, and whether it is `in_percent`;
        - `methods`: each `name`, `name_shown`, `evaluation`, `label` (of both), `selector` (trained) and `first`
          (shown at first);
        - `demonstrations`: each `[image, question, answer]`;
        - `queries`: each `id`, `image`, `question`, `choices`, `expected`, `beams` (`[demonstrations, score]`, best
          first) and `answers`: `{"METHOD/SHOTS": [demonstrations in prompt order, prediction, accuracy]}`;
        - `images`: data URIs.
        Images, demonstrations and methods are named by their place in these lists.

    Raises:
        `ValueError`: a query or a demonstration is not among the examples.
    """
    shots, metric = headline_shots(evaluations[0].results), metric_of(evaluations[0].results)
    shown = gallery_query_ids(evaluations[0].predictions["query_id"], num_queries)
    answers, methods = _answers(evaluations, set(shown))
    searched = _beams_of(beams, evaluations[0].results["split"], set(shown))
    images = _Images()
    query_examples = _examples(queries, shown, "queries")
    chosen = [one for of_query in answers.values() for ids, *_ in of_query.values() for one in ids]
    chosen += [one for found in searched.values() for ids, _ in found for one in ids]
    found = _examples(pool, chosen, "demonstrations")
    places = {identifier: place for place, identifier in enumerate(found)}
    entries = []
    for query_id in shown:
        example = query_examples[query_id]
        entries.append(
            {
                "id": query_id,
                "image": images.number(example["image"]),
                "question": example["question"],
                "choices": example.get("choices") or [],
                "expected": list(dict.fromkeys(example["answers"] or [example["answer"]])),
                "beams": [[[places[one] for one in ids], score] for ids, score in searched.get(query_id, [])],
                "answers": {
                    key: [[places[one] for one in ids], prediction, accuracy]
                    for key, (ids, prediction, accuracy) in answers.get(query_id, {}).items()
                },
            }
        )
    return {
        "shots": sorted({row["shots"] for one in evaluations for row in one.results["rows"] if row["shots"] > 0}),
        "headline_shots": shots,
        "num_all": len(set(evaluations[0].predictions["query_id"])),
        "metric": {"title": metric.title, "in_percent": metric.in_percent},
        "methods": methods,
        "queries": entries,
        "demonstrations": [
            [images.number(example["image"]), example["question"], example["answer"]] for example in found.values()
        ],
        "images": list(images.uris),
    }


def _answers(evaluations: Sequence[Evaluation], shown: set[str]) -> tuple[dict[str, dict], list[dict]]:
    """`{query: {"METHOD/SHOTS": (demonstration ids, prediction, accuracy)}}` and the methods; of several seeds the
    first."""
    answers: dict[str, dict[str, tuple]] = {}
    methods: list[dict[str, object]] = []
    for one in evaluations:
        names = sorted({row["method"] for row in one.results["rows"]}, key=method_rank)
        first = gallery_methods(one.results, headline_shots(one.results))
        # What the card shows first stands first.
        names.sort(key=lambda name, first=first: first.index(name) if name in first else len(first))
        numbers = {name: len(methods) + place for place, name in enumerate(names)}
        methods += [
            {
                "name": name,
                "label": one.named(method_label(name)),
                "name_shown": method_label(name),
                "evaluation": one.label,
                "selector": name in one.results["selectors"],
                "first": name in first,
            }
            for name in names
        ]
        seeds: dict[tuple[str, str], int] = {}
        columns = ("query_id", "method", "shots", "seed", "demonstration_ids", "prediction", "accuracy")
        plain = one.predictions.with_format(None).select_columns(list(columns))[:]
        for query_id, method, shots, seed, ids, prediction, accuracy in zip(
            *(plain[name] for name in columns), strict=True
        ):
            key = f"{numbers.get(method)}/{shots}"
            if query_id in shown and method in numbers and seed <= seeds.get((query_id, key), seed):
                seeds[query_id, key] = seed
                answers.setdefault(query_id, {})[key] = (ids, prediction, accuracy)
    return answers, methods


def _beams_of(beams: Dataset | None, split: str, shown: set[str]) -> dict[str, list[tuple[list[str], float]]]:
    if beams is None:
        return {}
    columns = beams.with_format(None).select_columns(["query_id", "split", "demonstration_ids", "scores"])[:]
    return {
        query_id: list(zip(sequences, scores, strict=True))
        for query_id, of, sequences, scores in zip(*columns.values(), strict=True)
        if of == split and query_id in shown
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
