# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The report as one HTML page that needs nothing but itself, and as Markdown.

The page loads nothing: styles are inline, pictures are data URIs. One script runs, the page's own, and a content
security policy that names its hash forbids every other. Data reaches the page as text that the template engine
escapes, or as JSON in which no tag can begin; the script shows it as text.

The gallery shows queries with their beams, the demonstrations of each method and the answers of the VLM. Which queries
are shown is decided by a hash of their ids, never by results.
"""

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from datasets import Dataset
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from PIL import Image, ImageOps

from ..evaluation.methods import METHODS, ORACLE, RANDOM, SELECTOR, ZERO_SHOT, method_label, method_rank, method_scope
from ..evaluation.runs import example_rows
from ..retrieval.sampler_arguments import SIMILARITIES
from . import tables
from .evaluations import Evaluation
from .sections import Section, section_markdown


THUMBNAIL = 128  # longest side in pixels: sharp at the 64 px that the page shows, on a screen of double density
JPEG_QUALITY = 80
IMAGES_PER_BLOCK = 200
NUMBER = re.compile(r"([-+.\d]+) (\[[-+.\d]+, [-+.\d]+\](?:, p [<=] [.\d]+)?)( collapsed)?")


def render_page(
    evaluations: Sequence[Evaluation], sections: Sequence[Section], gallery: Mapping, title: str | None = None
) -> str:
    """The report as one self-contained HTML page: the tables of accuracies, the sections in their order, and what
    [`build_gallery`] returns. The title defaults to the name of the first evaluation."""
    folder = resources.files("leverplus_trl") / "templates"
    style, script = ("\n" + (folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    images = gallery["images"]
    blocks = [images[start : start + IMAGES_PER_BLOCK] for start in range(0, len(images), IMAGES_PER_BLOCK)]
    data = {name: value for name, value in gallery.items() if name != "images"}
    script_hash = "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    further = {"style": Markup(style), "script": Markup(script), "script_hash": script_hash, "gallery": gallery}
    further["gallery_json"] = script_json({**data, "images_per_block": IMAGES_PER_BLOCK})
    further["image_blocks"] = [script_json(block) for block in blocks]
    return _render("report.html.jinja", evaluations, sections, title, **further)


def render_markdown(evaluations: Sequence[Evaluation], sections: Sequence[Section], title: str | None = None) -> str:
    """The report without its gallery as Markdown; charts are links to files beside it."""
    return _render("report.md.jinja", evaluations, sections, title, section_markdown=section_markdown)


def _render(
    template: str, evaluations: Sequence[Evaluation], sections: Sequence[Section], title: str | None, **further
) -> str:
    escaping = select_autoescape(disabled_extensions=["md.jinja"], default=True)
    settings = {"autoescape": escaping, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=PackageLoader("leverplus_trl"), undefined=StrictUndefined, **settings)
    environment.filters |= {"percent": tables.percent, "capital": tables.capital, "marked": _marked, "pretty": _pretty}
    environment.filters |= {"escape_markdown": tables.escape_markdown, "about": about}
    return environment.get_template(template).render(
        title=title or evaluations[0].results["name"],
        evaluations=evaluations,
        metric=tables.metric_of(evaluations[0].results),  # the same for all
        sections=sections,
        meanings=_meanings(evaluations),
        tables=tables,
        **further,
    )


def script_json(value: object) -> Markup:
    """JSON for a script element: nothing in it can end the element or begin another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":  # in JSON these are only in strings
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _marked(cell: str) -> Markup:
    """A cell with its interval and p in small print, and a mark on what has collapsed."""
    match = NUMBER.fullmatch(cell)
    if not match:
        return Markup("{}").format(cell)
    number, small_print, collapsed = match.groups()
    tag = Markup(' <span class="tag">collapsed</span>') if collapsed else ""
    return Markup('{} <span class="span">{}</span>').format(number, small_print) + tag


def about(results: Mapping) -> str:
    """A sentence on the VLM, the queries and the task."""
    return (
        f"{results['vlm']} answers {results['num_queries']} queries ({results['split']}) of {results['dataset']}; "
        f"task {results['task']}, measured by {results['metric']}."
    )


def _meanings(evaluations: Sequence[Evaluation]) -> list[tuple[str, str]]:
    methods = [row.method for evaluation in evaluations for row in tables.table_rows(evaluation.results)]
    selectors = {name for evaluation in evaluations for name in evaluation.results["selectors"]}
    known = METHODS | dict.fromkeys(selectors, METHODS[SELECTOR])
    bases = dict.fromkeys(METHODS[name].sampler or name if name in METHODS else name for name in methods)
    meanings = [(method_label(base), known[base].meaning if base in known else "A further method.") for base in bases]
    if any(method_scope(method) == "pool" for method in methods):
        meanings.append(
            ("… (whole pool)", "The same, choosing from the whole pool instead of the sampled candidates.")
        )
    return meanings


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def gallery_query_ids(query_ids: Iterable[str], num_queries: int) -> list[str]:
    """The first `num_queries` ids in the order of their SHA-256 hashes: the same in every run, blind to results."""
    return sorted(set(query_ids), key=lambda query_id: hashlib.sha256(query_id.encode()).digest())[:num_queries]


def gallery_methods(results: Mapping, shots: int) -> list[str]:
    """The methods that a query's card shows at first: selectors, the most accurate similarity baseline (either scope),
    random and oracle, where they have such shots, and zero-shot."""
    rows = tables.average_rows(results)
    similarities = [name for name, row in METHODS.items() if row.sampler in SIMILARITIES and (name, shots) in rows]
    # Ties go to the order of the tables, so that the choice does not depend on the order of rows.
    best = sorted(similarities, key=lambda method: (-rows[method, shots]["accuracy"], method_rank(method)))[:1]
    named = [(method, shots) for method in (*results["selectors"], *best, RANDOM, ORACLE)]
    return [method for method, at in [*named, (ZERO_SHOT, 0)] if (method, at) in rows]


def image_data_uri(image: Image.Image | None) -> str | None:
    """A thumbnail of an image of any mode as a data URI: PNG or JPEG, whichever is smaller. The pixels are drawn onto
    a new white image, so nothing else of the source file (metadata, profiles) reaches the page."""
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
    Raises `ValueError` for a query or a demonstration that is not among the examples.

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
    """
    results = evaluations[0].results
    query_ids = set(evaluations[0].predictions["query_id"])
    shown, metric = gallery_query_ids(query_ids, num_queries), tables.metric_of(results)
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
        "shots": sorted({shots for evaluation in evaluations for shots in tables.shots_of(evaluation.results)}),
        "headline_shots": tables.headline_shots(results),
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
        first = gallery_methods(results, tables.headline_shots(results))
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
