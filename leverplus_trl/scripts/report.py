# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Stage `report`: tables, charts and one self-contained page from one evaluation or several.

Writes `index.html`, `report.md`, `results.csv` (every row), `comparison.csv` (the tables of the papers, published
figures included) and the charts.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ..launch import start_stage
from ..output_files import write_atomically
from ..recipe import named_folder
from ..report.comparison import comparison_csv, comparison_section, read_published, results_csv
from ..report.evaluation_sections import diagnostics_section, metrics_section, selectors_section, shots_section
from ..report.evaluations import Evaluation, check_examples, read_evaluations, read_splits
from ..report.page import build_gallery, render_markdown, render_page
from ..report.report_arguments import ReportArguments
from ..report.sections import Section
from ..report.tables import findings, terminal_table
from ..report.training import STATE, beams_section, read_analysis, training_section
from ..run_folder import RunFolder
from ..schema import BEAMS
from ..stage_arguments import StageArguments
from ..tasks import DataArguments, load_examples
from . import parsers


logger = logging.getLogger(__name__)

make_parser = partial(parsers.make_parser, "report")


def main(stage_args: StageArguments, data_args: DataArguments, report_args: ReportArguments) -> None:
    state = start_stage(stage_args, "report")
    evaluations = read_evaluations(report_args.evaluation)
    published = read_published(report_args.published) if report_args.published else None
    if stage_args.dry_run:
        count = sum(len(evaluation.results["rows"]) for evaluation in evaluations)
        logger.info("%d rows of results would be reported in %s, without a VLM.", count, report_args.output_dir)
        return
    run = RunFolder(report_args.output_dir, "report", asdict(stage_args) | asdict(data_args) | asdict(report_args))
    beams = read_splits(report_args.beams, "beams", BEAMS) if report_args.beams else None
    every_section = [
        comparison_section(evaluations, published),
        selectors_section(evaluations),
        shots_section(evaluations, published),
        metrics_section(evaluations),
        diagnostics_section(evaluations),
        beams_section(beams, read_analysis(report_args.beams, beams)) if report_args.beams else None,
        training_section(training_folders(report_args.training, evaluations)),
    ]
    sections: list[Section] = [section for section in every_section if section]
    evaluated = evaluations[0].results
    queries = load_examples(data_args, evaluated["provenance"].get("recipe", {}).get("eval_split", evaluated["split"]))
    check_examples(evaluations, queries)
    pool = load_examples(data_args, data_args.pool_split)
    gallery = build_gallery(evaluations, queries, pool, report_args.num_gallery_queries, beams)
    if state.is_main_process:
        files = {chart.file_name: chart.png for section in sections for chart in section.charts}
        files["results.csv"] = results_csv(evaluations).encode()
        files["comparison.csv"] = comparison_csv(evaluations, published).encode()
        files["report.md"] = render_markdown(evaluations, sections, report_args.title).encode()
        files["index.html"] = render_page(evaluations, sections, gallery, report_args.title).encode()
        for name, content in files.items():
            write_atomically(run.path / name, content)
        for evaluation in evaluations:
            label = [evaluation.label] if evaluation.label else []
            print(*label, terminal_table(evaluation.results), sep="\n", flush=True)
            for verdict in findings(evaluation.results)[:1]:
                logger.info("%s", verdict)
        logger.info("The report is %s.", run.path / "index.html")


def training_folders(named: Sequence[str] | None, evaluations: Sequence[Evaluation]) -> dict[str, Path]:
    """`{label: folder}` of the selectors whose training is shown: those named, or else those of the evaluations that
    left a log here."""
    if named is not None:
        return {label or folder: Path(folder) for label, folder in map(named_folder, named)}
    recipes = [evaluation.results["provenance"].get("recipe", {}) for evaluation in evaluations]
    folders: dict[str, Path] = {}
    for entry in dict.fromkeys(entry for recipe in recipes for entry in recipe.get("selectors") or []):
        label, folder = named_folder(entry)
        if (Path(folder) / STATE).is_file() and Path(folder) not in folders.values():
            folders[f"{label} ({folder})" if label else folder] = Path(folder)
    return folders


if __name__ == "__main__":
    parsers.run_script("report")
