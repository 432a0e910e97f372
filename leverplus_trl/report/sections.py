# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The parts of a report: sections of paragraphs, charts and tables, the same for the page and for Markdown."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from .plots import DPI
from .tables import ABSENT, escape_markdown


CSS_DPI = 96  # pixels of an inch on a page


@dataclass(frozen=True)
class Chart:
    """A chart of the report."""

    file_name: str  # of the picture beside the page
    png: bytes
    title: str
    description: str  # caption, and text for readers who can't see it

    @property
    def data_uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")

    @property
    def width(self) -> int:
        """Width on the page: the size it was drawn for, whatever its resolution."""
        return max(1, int.from_bytes(self.png[16:20]) * CSS_DPI // DPI)


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    cells: Sequence[str]  # the first is the row's name
    kind: str = ""  # "selector" (trained), "published" (not measured here) or nothing
    bold: frozenset[int] = frozenset()  # places of the cells in bold


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    caption: str
    head: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Row]]]  # rows under a heading each; an empty heading is not shown


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    title: str
    anchor: str
    paragraphs: Sequence[str] = field(default_factory=list)
    charts: Sequence[Chart] = field(default_factory=list)
    tables: Sequence[Table] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)  # small print at the end
    warnings: Sequence[str] = field(default_factory=list)  # reasons to doubt the numbers, at the beginning


def section_markdown(section: Section) -> str:
    """A section as GitHub Markdown; charts are links to their files."""
    parts = [
        f"## {escape_markdown(section.title)}",
        *(f"**Warning:** {escape_markdown(text)}" for text in section.warnings),
        *map(escape_markdown, section.paragraphs),
        *(f"![{escape_markdown(chart.description)}]({chart.file_name})" for chart in section.charts),
        *map(_table_markdown, section.tables),
    ]
    if section.notes:
        parts.append("\n".join(f"- {escape_markdown(text)}" for text in section.notes))
    return "\n\n".join(parts)


def _table_markdown(table: Table) -> str:
    lines = [map(escape_markdown, table.head), ["---"] * len(table.head)]
    for title, rows in table.groups:
        if title:
            lines.append([f"*{escape_markdown(title)}*", *[""] * (len(table.head) - 1)])
        for row in rows:
            cells = [escape_markdown(cell) or ABSENT for cell in row.cells]
            lines.append([f"**{cell}**" if place in row.bold else cell for place, cell in enumerate(cells)])
    return "\n".join([escape_markdown(table.caption), "", *(f"| {' | '.join(cells)} |" for cells in lines)])
