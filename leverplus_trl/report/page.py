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

"""The report as one HTML page that needs nothing but itself, and as Markdown.

The page loads nothing and runs nothing: styles are inline, pictures are data URIs, there is no script, and a content
security policy forbids both to whatever might slip in. Whatever comes from data is escaped by the template engine.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..evaluation.evaluation import POOL_SUFFIX
from .tables import (
    ABSENT,
    MEANINGS,
    SCOPES,
    escape_markdown,
    findings,
    interval,
    markdown_table,
    method_label,
    notes,
    percent,
    shots_of,
    table_rows,
)


@dataclass(frozen=True)
class Chart:
    """
    A chart of the report.

    Args:
        file_name (`str`):
            Name of the picture beside the page.
        png (`bytes`):
            The picture.
        title (`str`):
            Heading above it.
        description (`str`):
            What it shows, for those who can't see it and as its caption.
    """

    file_name: str
    png: bytes
    title: str
    description: str

    @property
    def data_uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def render_page(results: Mapping, charts: Sequence[Chart], gallery: Mapping, title: str | None = None) -> str:
    """
    The report as one self-contained HTML page.

    Args:
        results (`Mapping`):
            Content of `results.json`.
        charts (`Sequence[Chart]`):
            Charts, in the order of the page.
        gallery (`Mapping`):
            What [`~leverplus_trl.report.gallery.build_gallery`] returns.
        title (`str`, *optional*):
            Title of the page; by default the name of the evaluation.
    """
    environment = Environment(
        loader=PackageLoader("leverplus_trl"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "signed": lambda value: percent(value, signed=True)}
    environment.globals |= {"interval": interval, "absent": ABSENT}
    sentences = findings(results)
    rows = table_rows(results)
    return environment.get_template("report.html.jinja").render(
        title=title or results["name"],
        results=results,
        headline=sentences[0],
        further=sentences[1:],
        shots=shots_of(results),
        groups=[(SCOPES[scope], [row for row in rows if row.scope == scope]) for scope in SCOPES],
        notes=notes(results),
        charts=charts,
        meanings=_meanings(results),
        gallery=gallery,
        collapse=_pretty(results["collapse"]) if results["collapse"] else None,
        provenance=_pretty(results["provenance"]),
    )


def render_markdown(results: Mapping, charts: Sequence[Chart], title: str | None = None) -> str:
    """The report without its gallery as Markdown; charts are linked as files beside it."""
    headline, *further = (escape_markdown(sentence) for sentence in findings(results))
    parts = [
        f"# {escape_markdown(title or results['name'])}",
        f"**{headline}**",
        *further,
        markdown_table(results).rstrip(),
        "\n".join(f"- {escape_markdown(note)}" for note in notes(results)),
        *(f"![{escape_markdown(chart.description)}]({chart.file_name})" for chart in charts),
        "## Methods",
        "\n".join(
            f"- **{escape_markdown(label)}**: {escape_markdown(meaning)}" for label, meaning in _meanings(results)
        ),
        "## Provenance",
        "\n".join(f"- {key}: {escape_markdown(str(results[key]))}" for key in ("dataset", "vlm", "task", "metric")),
        "\n".join("    " + line for line in _pretty(results["provenance"]).splitlines()),
    ]
    return "\n\n".join(parts) + "\n"


def _meanings(results: Mapping) -> list[tuple[str, str]]:
    methods = [row.method for row in table_rows(results)]
    bases = dict.fromkeys(method.removesuffix(POOL_SUFFIX) for method in methods)
    found = [(method_label(base), MEANINGS.get(base, "A further method of this evaluation.")) for base in bases]
    if any(method.endswith(POOL_SUFFIX) for method in methods):
        found.append(("… (whole pool)", "The same, choosing from the whole pool instead of the sampled candidates."))
    return found


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
