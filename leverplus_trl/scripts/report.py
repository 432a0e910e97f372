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

"""
Stage `report`: tables, charts and one self-contained page from an evaluation.

```bash
leverplus report --config recipes/demo/60_report.yaml
```

Writes `index.html`, `report.md`, `results.csv`, `accuracy_by_shots.png` and, given `beams`,
`score_by_beam_position.png`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from datasets import Dataset, Features, concatenate_datasets
from trl import TrlParser

from ..evaluation.evaluation import read_results, write_atomically
from ..evaluation.significance import Interval
from ..launch import start_stage
from ..provenance import digest
from ..report.gallery import build_gallery
from ..report.page import Chart, render_markdown, render_page
from ..report.plots import plot_accuracy_by_shots, plot_score_by_beam_position, scores_by_beam_position
from ..report.report_arguments import ReportArguments
from ..report.tables import markdown_table, results_csv, shots_of
from ..run_folder import RunFolder
from ..schema import BEAMS, PREDICTIONS
from ..tables import read_table, splits_of
from ..tasks import DataArguments, load_examples
from .stage_arguments import StageArguments


logger = logging.getLogger("leverplus_trl.scripts.report")  # as a module that is run, __name__ is "__main__"


def make_parser() -> TrlParser:
    return TrlParser(
        (StageArguments, DataArguments, ReportArguments),
        prog="leverplus report",
        description="Tables, charts and one self-contained page from an evaluation.",
    )


def main(stage_args: StageArguments, data_args: DataArguments, report_args: ReportArguments) -> None:
    state = start_stage(stage_args, "report")
    results, predictions = read_evaluation(report_args.evaluation)
    if stage_args.dry_run:
        logger.info(
            "%d rows of results would be reported in %s, without a VLM.", len(results["rows"]), report_args.output_dir
        )
        return
    run = RunFolder(report_args.output_dir, "report", asdict(stage_args) | asdict(data_args) | asdict(report_args))
    beams = read_splits(report_args.beams, "beams", BEAMS) if report_args.beams else None
    charts = make_charts(results, beams)
    queries = load_examples(data_args, results["split"])
    pool = load_examples(data_args, data_args.pool_split)
    gallery = build_gallery(results, predictions, queries, pool, report_args.num_gallery_queries)
    if state.is_main_process:
        for chart in charts:
            write_atomically(run.path / chart.file_name, chart.png)
        write_atomically(run.path / "results.csv", results_csv(results).encode())
        write_atomically(run.path / "report.md", render_markdown(results, charts, report_args.title).encode())
        write_atomically(run.path / "index.html", render_page(results, charts, gallery, report_args.title).encode())
        print(markdown_table(results))
        logger.info("The report is %s.", run.path / "index.html")


def read_evaluation(folder: str) -> tuple[dict[str, object], Dataset]:
    """
    The results and the predictions that the evaluate stage wrote.

    Raises:
        `ValueError`: the two are of different queries, or no method with demonstrations was evaluated.
    """
    results = read_results(Path(folder) / "results.json")
    if not shots_of(results):
        raise ValueError(f"The results in {folder!r} are zero-shot alone; evaluate a method with demonstrations.")
    predictions = read_splits(str(Path(folder) / "predictions"), "predictions", PREDICTIONS)
    if digest(sorted(set(predictions["query_id"]))) != results["query_set"]:
        raise ValueError(
            f"The predictions and results.json in {folder!r} are of different queries; run the evaluate stage again."
        )
    return results, predictions


def read_splits(path_or_id: str, config: str, features: Features) -> Dataset:
    """All splits of a table as one; its `split` column still tells them apart."""
    return concatenate_datasets(
        [read_table(path_or_id, config, split, features) for split in splits_of(path_or_id, config)]
    )


def make_charts(results: Mapping, beams: Dataset | None) -> list[Chart]:
    """The charts of the report; the one of beam positions needs a beam table."""
    charts = [
        Chart(
            "accuracy_by_shots.png",
            plot_accuracy_by_shots(results),
            "Accuracy by number of shots",
            f"Accuracy of each method by number of shots, with {results['interval']['confidence']:.0%} intervals; the "
            "dotted line and its band are zero-shot. The numbers stand in the table.",
        )
    ]
    if beams is not None:
        by_split = scores_by_beam_position(beams)
        charts.append(
            Chart(
                "score_by_beam_position.png",
                plot_score_by_beam_position(by_split),
                "Mean score by beam position",
                "Mean score of the sequences that the beam search kept, best first, with 95% intervals over queries. "
                + " ".join(_ends(split, means) for split, means in by_split.items()),
            )
        )
    return charts


def _ends(split: str, means: Sequence[Interval]) -> str:
    first, last = (f"{mean.mean:.3f}" for mean in (means[0], means[-1]))
    return f"{split}: {first} at position 1, {last} at position {len(means)}."


if __name__ == "__main__":
    main(*make_parser().parse_args_and_config())
