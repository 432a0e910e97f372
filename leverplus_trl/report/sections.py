# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a report is made of: sections of paragraphs, charts and tables, the same for the page and for Markdown."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from .plots import DPI
from .tables import ABSENT, escape_markdown


CSS_DPI = 96  # pixels of an inch on a page


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

    @property
    def width(self) -> int:
        """Width on the page: the size it was drawn for, whatever its resolution."""
        return max(1, int.from_bytes(self.png[16:20]) * CSS_DPI // DPI)


@dataclass(frozen=True)
class Row:
    """
    A row of a table.

    Args:
        cells (`Sequence[str]`):
            Texts, the first one the row's name.
        kind (`str`, *optional*, defaults to `""`):
            `"selector"` (a trained one), `"published"` (not measured here) or nothing.
        bold (`frozenset[int]`, *optional*):
            Places of the cells in bold.
    """

    cells: Sequence[str]
    kind: str = ""
    bold: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Table:
    """
    A table.

    Args:
        caption (`str`):
            What it holds.
        head (`Sequence[str]`):
            Names of the columns.
        groups (`Sequence[tuple[str, Sequence[Row]]]`):
            Rows under a heading each; an empty heading is not shown.
    """

    caption: str
    head: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Row]]]


@dataclass(frozen=True)
class Section:
    """
    A section of the report.

    Args:
        title (`str`):
            Its heading.
        anchor (`str`):
            Name to link to.
        paragraphs (`Sequence[str]`, *optional*):
            Texts before everything else.
        charts (`Sequence[Chart]`, *optional*):
            Charts.
        tables (`Sequence[Table]`, *optional*):
            Tables.
        notes (`Sequence[str]`, *optional*):
            Small print behind everything else.
        warnings (`Sequence[str]`, *optional*):
            What makes the numbers doubtful, before the paragraphs.
    """

    title: str
    anchor: str
    paragraphs: Sequence[str] = field(default_factory=list)
    charts: Sequence[Chart] = field(default_factory=list)
    tables: Sequence[Table] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)
    warnings: Sequence[str] = field(default_factory=list)


def section_markdown(section: Section) -> str:
    """A section as GitHub Markdown; charts are linked as files beside it."""
    parts = [
        f"## {escape_markdown(section.title)}",
        *(f"**Warning:** {escape_markdown(text)}" for text in section.warnings),
        *(escape_markdown(text) for text in section.paragraphs),
        *(f"![{escape_markdown(chart.description)}]({chart.file_name})" for chart in section.charts),
        *(_table_markdown(table) for table in section.tables),
    ]
    if section.notes:
        parts.append("\n".join(f"- {escape_markdown(text)}" for text in section.notes))
    return "\n\n".join(parts)


def _table_markdown(table: Table) -> str:
    lines = [escape_markdown(table.caption), "", _line(map(escape_markdown, table.head))]
    lines.append(_line("---" for _ in table.head))
    for title, rows in table.groups:
        if title:
            lines.append(_line([f"*{escape_markdown(title)}*", *("" for _ in table.head[1:])]))
        for row in rows:
            cells = [escape_markdown(cell) or ABSENT for cell in row.cells]
            lines.append(_line(f"**{cell}**" if place in row.bold else cell for place, cell in enumerate(cells)))
    return "\n".join(lines)


def _line(cells) -> str:
    return "| " + " | ".join(cells) + " |"
