# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Writes `docs/results.md` and its charts from the evaluations that `make results` makes.

    python docs/make_results.py        (from the repository's root)
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from leverplus_trl.report.evaluation_sections import (
    diagnostics_section,
    metrics_section,
    selectors_section,
    shots_section,
)
from leverplus_trl.report.evaluations import Evaluation, read_evaluations, read_splits
from leverplus_trl.report.page import about
from leverplus_trl.report.sections import section_markdown
from leverplus_trl.report.tables import escape_markdown, markdown_table, notes
from leverplus_trl.report.training import beams_section, read_analysis
from leverplus_trl.run_folder import write_atomically
from leverplus_trl.schema import BEAMS


@dataclass(frozen=True)
class Study:
    """An evaluation to print: its heading, the recipes behind it, the folders of its results and beams."""

    title: str
    recipes: str
    evaluation: str
    beams: str


STUDIES = (
    Study(
        "The embedded world",
        "`recipes/demo` (the beams), `recipes/demo_selectors`",
        "outputs/demo_selectors/evaluation",
        "outputs/demo/beams",
    ),
    Study("Emoji and SmolLM2-135M", "`recipes/emoji_smollm2`", "outputs/emoji/evaluation", "outputs/emoji/beams"),
)
INTRODUCTION = """\
# Results

`make results` makes this page: it runs the recipes named below, three seeds each of every selector and of every
method that draws at random, and writes the tables of their evaluations. Nothing here was edited by hand.
[selectors.md](selectors.md) says what the selectors are, and what can be concluded and what can't."""


def render(study: Study, folder: Path) -> tuple[str, dict[str, bytes]]:
    """A study as Markdown, and its charts by file name; `folder` is where these will lie beside the page."""
    (evaluation,) = read_evaluations([study.evaluation])
    beams = read_splits(study.beams, "beams", BEAMS)
    found = [
        selectors_section([evaluation]),
        shots_section([evaluation]),
        metrics_section([evaluation]),
        diagnostics_section([evaluation]),
        beams_section(beams, read_analysis(study.beams, beams)),
    ]
    prefix, charts, parts = Path(study.evaluation).parent.name, {}, []
    for section in (section for section in found if section):
        named = [replace(chart, file_name=f"{folder.name}/{prefix}_{chart.file_name}") for chart in section.charts]
        charts |= {chart.file_name: chart.png for chart in named}
        parts.append("#" + section_markdown(replace(section, charts=named)))
    small_print = "\n".join(f"- {escape_markdown(note)}" for note in notes(evaluation.results))
    head = [f"## {study.title}", f"{escape_markdown(about(evaluation.results))} Recipes: {study.recipes}."]
    table = ["### Accuracy", markdown_table(evaluation.results).rstrip(), small_print]
    return "\n\n".join([*head, *table, *parts, _made_with(evaluation)]), charts


def _made_with(evaluation: Evaluation) -> str:
    made = evaluation.results["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    return f"Made with {versions}; device {made['facts']['device']}, {made['facts']['num_threads']} thread a process."


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/results.md from the evaluations of `make results`.")
    parser.add_argument("--output", type=Path, default=Path("docs/results.md"), help="the page")
    page = parser.parse_args().output
    parts = [INTRODUCTION]
    for study in STUDIES:
        text, charts = render(study, page.with_suffix(""))
        parts.append(text)
        for name, png in charts.items():
            write_atomically(page.parent / name, png)
    write_atomically(page, ("\n\n".join(parts) + "\n").encode())
    print(f"The results are in {page}.")


if __name__ == "__main__":
    main()
