# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The report as one HTML page that needs nothing but itself, and as Markdown.

The page loads nothing: styles are inline, pictures are data URIs. One script runs, the page's own, and a content
security policy that names its hash forbids every other. Data reaches the page as text that the template engine
escapes, or as JSON in which no tag can begin; the script shows it as text.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..evaluation.methods import METHODS, SELECTOR, method_label, method_scope
from .evaluations import Evaluation
from .sections import Section, section_markdown
from .tables import (
    ABSENT,
    SCOPES,
    capital,
    escape_markdown,
    findings,
    interval,
    markdown_table,
    metric_of,
    notes,
    percent,
    shots_of,
    table_rows,
)


IMAGES_PER_BLOCK = 200
NUMBER = re.compile(r"([-+.\d]+) (\[[-+.\d]+, [-+.\d]+\](?:, p [<=] [.\d]+)?)( collapsed)?")


def render_page(
    evaluations: Sequence[Evaluation], sections: Sequence[Section], gallery: Mapping, title: str | None = None
) -> str:
    """The report as one self-contained HTML page: the tables of accuracies, the sections in their order, and what
    [`~leverplus_trl.report.gallery.build_gallery`] returns. The title defaults to the name of the first evaluation."""
    loader, trim = PackageLoader("leverplus_trl"), {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, **trim)
    environment.filters |= {"percent": percent, "marked": _marked, "capital": capital}
    environment.globals |= {"interval": interval, "absent": ABSENT, "shots_of": shots_of}
    environment.globals |= {"findings": findings, "notes": notes, "pretty": _pretty, "scopes": _scopes, "about": about}
    style, script = ("\n" + loader.get_source(environment, name)[0] for name in ("report.css", "report.js"))
    images = gallery["images"]
    blocks = [images[start : start + IMAGES_PER_BLOCK] for start in range(0, len(images), IMAGES_PER_BLOCK)]
    data = {name: value for name, value in gallery.items() if name != "images"}
    return environment.get_template("report.html.jinja").render(
        title=title or evaluations[0].results["name"],
        evaluations=evaluations,
        metric=metric_of(evaluations[0].results),  # the same for all
        sections=sections,
        meanings=_meanings(evaluations),
        gallery=gallery,
        gallery_json=script_json({**data, "images_per_block": IMAGES_PER_BLOCK}),
        image_blocks=[script_json(block) for block in blocks],
        style=Markup(style),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
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


def _scopes(results: Mapping) -> list[tuple[str, list]]:
    rows = table_rows(results)
    return [(title, [row for row in rows if row.scope == scope]) for scope, title in SCOPES.items()]


def about(results: Mapping) -> str:
    """A sentence on the VLM, the queries and the task."""
    return (
        f"{results['vlm']} answers {results['num_queries']} queries ({results['split']}) of {results['dataset']}; "
        f"task {results['task']}, measured by {results['metric']}."
    )


def render_markdown(evaluations: Sequence[Evaluation], sections: Sequence[Section], title: str | None = None) -> str:
    """The report without its gallery as Markdown; charts are links to files beside it."""
    parts = [f"# {escape_markdown(title or evaluations[0].results['name'])}"]
    tables, provenance = [], []
    for evaluation in evaluations:
        results = evaluation.results
        headline, *further = findings(results)
        parts += [escape_markdown(evaluation.named(about(results)))]
        parts += [f"**{escape_markdown(evaluation.named(headline))}**", *map(escape_markdown, further)]
        heading = [f"### {escape_markdown(evaluation.label)}"] if evaluation.label else []
        small_print = "\n".join(f"- {escape_markdown(note)}" for note in notes(results))
        tables += [*heading, markdown_table(results).rstrip(), small_print]
        lines = _pretty(results["provenance"]).splitlines()
        provenance += [*heading, "\n".join("    " + line for line in lines)]
    meanings = [f"- **{escape_markdown(label)}**: {escape_markdown(text)}" for label, text in _meanings(evaluations)]
    parts += [f"## {capital(metric_of(evaluations[0].results).title)}", *tables, "## Methods", "\n".join(meanings)]
    return "\n\n".join([*parts, *map(section_markdown, sections), "## Provenance", *provenance]) + "\n"


def _meanings(evaluations: Sequence[Evaluation]) -> list[tuple[str, str]]:
    methods = [row.method for evaluation in evaluations for row in table_rows(evaluation.results)]
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
