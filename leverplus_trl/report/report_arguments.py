# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the `report` stage."""

from dataclasses import dataclass

from ..fields import check_fields, documented, option


@documented
@dataclass
class ReportArguments:
    """Report: what it is about and where it is written."""

    evaluation: list[str] | str = option(
        "Folders that the evaluate stage wrote, on the same queries, each FOLDER or LABEL=FOLDER.", not_empty=True
    )
    output_dir: str = option("Folder for index.html, report.md, the CSV files and the charts.", path="folder")
    beams: str | None = option("Beams, for their analysis and to show them.", None, path="folder")
    training: list[str] | str | None = option(
        "Selectors whose training is shown: FOLDER or LABEL=FOLDER. Default: those evaluated that have a log here.",
        None,
        path="folder",
    )
    published: str | None = option(
        "CSV file of published figures to show, with the columns of those in `recipes/okvqa_*`.", None, path="file"
    )
    num_gallery_queries: int = option("Queries to browse in the page.", 500, min=0)
    title: str | None = option("Title of the report; default: the evaluation's name.", None)

    def __post_init__(self):
        check_fields(self)
        # A recipe may name a single folder without a list.
        if isinstance(self.evaluation, str):
            self.evaluation = [self.evaluation]
        if isinstance(self.training, str):
            self.training = [self.training]
