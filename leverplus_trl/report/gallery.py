# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Queries with their beams, the demonstrations of each method and the answers of the VLM, as plain data for the page.

Which queries are shown is decided by a hash of their ids, never by results.
"""

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence

from datasets import Dataset
from PIL import Image, ImageOps

from ..evaluation.methods import METHODS, ORACLE, RANDOM, ZERO_SHOT, method_label, method_rank
from ..evaluation.runs import example_rows
from ..retrieval.sampler_arguments import SIMILARITIES
from .evaluations import Evaluation
from .tables import average_rows, headline_shots, metric_of, shots_of


THUMBNAIL = 128  # longest side in pixels: sharp at the 64 px that the page shows, on a screen of double density
JPEG_QUALITY = 80


def gallery_query_ids(query_ids: Iterable[str], num_queries: int) -> list[str]:
    """The first `num_queries` ids in the order of their SHA-256 hashes: the same in every run, blind to results."""
    return sorted(set(query_ids), key=lambda query_id: hashlib.sha256(query_id.encode()).digest())[:num_queries]


def gallery_methods(results: Mapping, shots: int) -> list[str]:
    """The methods that a query's card shows at first: selectors, the most accurate similarity baseline (either scope),
    random and oracle, where they have such shots, and zero-shot."""
    rows = average_rows(results)
    similarities = [name for name, row in METHODS.items() if row.sampler in SIMILARITIES and (name, shots) in rows]
    # Ties go to the order of the tables, so that the choice does not depend on the order of rows.
    best = sorted(similarities, key=lambda method: (-rows[method, shots]["accuracy"], method_rank(method)))[:1]
    named = [(method, shots) for method in (*results["selectors"], *best, RANDOM, ORACLE)]
    return [method for method, at in [*named, (ZERO_SHOT, 0)] if (method, at) in rows]


def image_data_uri(image: Image.Image | None) -> str | None:
    """
    A thumbnail of an image of any mode as a data URI: PNG or JPEG, whichever is smaller. Transparency becomes white.

    The pixels are drawn onto a new image, so nothing else of the source file (metadata, profiles) reaches the page.
    """
    if image is None:
        return None
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    upright.thumbnail((THUMBNAIL, THUMBNAIL))
    clean = Image.new("RGB", upright.size, "white")
    clean.paste(upright, mask=upright.getchannel("A"))
    encoded = {}
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": JPEG_QUALITY, "optimize": True})):
        out = io.BytesIO()
        clean.save(out, format=kind, **options)
        encoded[kind] = out.getvalue()
    kind = min(encoded, key=lambda kind: len(encoded[kind]))  # a tie goes to the PNG, which loses nothing
    return f"data:image/{kind};base64," + base64.b64encode(encoded[kind]).decode("ascii")


def build_gallery(
    evaluations: Sequence[Evaluation], queries: Dataset, pool: Dataset, num_queries: int, beams: Dataset | None = None
) -> dict[str, object]:
    """
    Collects the queries to show with each method's demonstrations and answers, and their beams if these are given.

    Returns:
        `dict`: ready for JSON.
        - `shots`, `headline_shots`, `num_all` (queries in the table);
        - `metric`: its `title`, and whether it is `in_percent`;
        - `methods`: each `name`, `name_shown`, `evaluation`, `label` (of both), `selector` (trained) and `first`
          (shown at first);
        - `demonstrations`: each `[image, question, answer]`;
        - `queries`: each `id`, `image`, `question`, `choices`, `expected`, `beams` (`[demonstrations, score]`, best
          first) and `answers`: `{"METHOD/SHOTS": [demonstrations in prompt order, prediction, accuracy]}`;
        - `images`: data URIs, each once.
        Images, demonstrations and methods are named by their place in these lists.

    Raises:
        `ValueError`: a query or a demonstration is not among the examples.
    """
    results = evaluations[0].results
    query_ids = set(evaluations[0].predictions["query_id"])
    shown, metric = gallery_query_ids(query_ids, num_queries), metric_of(results)
    answers, methods = _answers(evaluations, set(shown))
    searched = _searched(beams, results["split"], set(shown))
    chosen = [identifier for of_query in answers.values() for ids, *_ in of_query.values() for identifier in ids]
    chosen += [identifier for sequences in searched.values() for ids, _ in sequences for identifier in ids]
    places = {identifier: place for place, identifier in enumerate(dict.fromkeys(chosen))}
    images: dict[str | None, int | None] = {None: None}  # data URI -> number

    def number(image: Image.Image | None) -> int | None:
        return images.setdefault(image_data_uri(image), len(images) - 1)

    def placed(ids: Sequence[str]) -> list[int]:
        return [places[identifier] for identifier in ids]

    entries = []
    for query_id, row in zip(shown, example_rows(queries, shown, "queries"), strict=True):
        example = queries[row]
        entry = {"id": query_id, "image": number(example["image"]), "question": example["question"]}
        entry["choices"] = example.get("choices") or []
        entry["expected"] = list(dict.fromkeys(example["answers"] or [example["answer"]]))
        entry["beams"] = [[placed(ids), score] for ids, score in searched.get(query_id, [])]
        entry["answers"] = {key: [placed(ids), *answer] for key, (ids, *answer) in answers.get(query_id, {}).items()}
        entries.append(entry)
    demonstrations = []
    for row in example_rows(pool, places, "pool"):
        example = pool[row]
        demonstrations.append([number(example["image"]), example["question"], example["answer"]])
    return {
        "shots": sorted({shots for evaluation in evaluations for shots in shots_of(evaluation.results)}),
        "headline_shots": headline_shots(results),
        "num_all": len(query_ids),
        "metric": {"title": metric.title, "in_percent": metric.in_percent},
        "methods": methods,
        "queries": entries,
        "demonstrations": demonstrations,
        "images": [uri for uri in images if uri],
    }


def _answers(evaluations: Sequence[Evaluation], shown: set[str]) -> tuple[dict[str, dict], list[dict]]:
    """`{query: {"METHOD/SHOTS": (demonstration ids, prediction, accuracy)}}` and the methods; of several seeds the
    first."""
    answers: dict[str, dict[str, tuple]] = {}
    methods: list[dict[str, object]] = []
    for evaluation in evaluations:
        results = evaluation.results
        first = gallery_methods(results, headline_shots(results))
        # The methods that the card shows at first are first.
        names = dict.fromkeys([*first, *sorted({row["method"] for row in results["rows"]}, key=method_rank)])
        numbers = {name: len(methods) + place for place, name in enumerate(names)}
        for name in names:
            label, selector = method_label(name), name in results["selectors"]
            method = {"name": name, "label": evaluation.named(label), "name_shown": label}
            methods.append(method | {"evaluation": evaluation.label, "selector": selector, "first": name in first})
        columns = ["query_id", "method", "shots", "seed", "demonstration_ids", "prediction", "accuracy"]
        table = evaluation.predictions.with_format(None).select_columns(columns)[:]
        seeds: dict[tuple[str, str], int] = {}
        for query_id, method, shots, seed, *answer in zip(*(table[name] for name in columns), strict=True):
            key = f"{numbers.get(method)}/{shots}"
            if query_id in shown and method in numbers and seed <= seeds.get((query_id, key), seed):
                seeds[query_id, key] = seed
                answers.setdefault(query_id, {})[key] = tuple(answer)
    return answers, methods


def _searched(beams: Dataset | None, split: str, shown: set[str]) -> dict[str, list[tuple[list[str], float]]]:
    """The beams of the queries that are shown: `{query: [(demonstration ids, score), ...]}`."""
    if beams is None:
        return {}
    table = beams.with_format(None).select_columns(["query_id", "split", "demonstration_ids", "scores"])[:]
    return {
        query_id: list(zip(sequences, scores, strict=True))
        for query_id, of_split, sequences, scores in zip(*table.values(), strict=True)
        if of_split == split and query_id in shown
    }
