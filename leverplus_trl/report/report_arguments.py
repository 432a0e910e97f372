# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the `report` stage."""

from dataclasses import dataclass, field

from ..fields import check_fields


@dataclass
class ReportArguments:
    """
    Report: what it is about and where it is written.

    Args:
        evaluation (`list[str]`):
            Folders that the evaluate stage wrote (`results.json` and `predictions`), all on the same queries; a single
            one needs no list. `LABEL=FOLDER` gives one a name of its own.
        output_dir (`str`):
            Folder for the report.
        beams (`str`, *optional*):
            Beams, for what the search showed before training and for the beams of the queries that are shown.
        training (`list[str]`, *optional*):
            Folders of trained selectors, whose training curves are drawn; `LABEL=FOLDER` names one. By default those
            selectors of the evaluations that are folders here.
        published (`str`, *optional*):
            CSV file of figures that others published, to be shown beside these results; see `recipes/okvqa_*`.
        num_gallery_queries (`int`, *optional*, defaults to 500):
            Queries to browse, with their demonstrations and answers.
        title (`str`, *optional*):
            Title of the report; by default the name of the first evaluation.
    """

    evaluation: list[str] | str = field(
        metadata={
            "help": "Folders that the evaluate stage wrote, on the same queries, each FOLDER or LABEL=FOLDER.",
            "not_empty": True,
        }
    )
    output_dir: str = field(
        metadata={"help": "Folder for index.html, report.md, the CSV files and the charts.", "path": "folder"}
    )
    beams: str | None = field(
        default=None, metadata={"help": "Beams, for their analysis and to show them.", "path": "folder"}
    )
    training: list[str] | str | None = field(
        default=None,
        metadata={"help": "Selectors whose training is shown, each FOLDER or LABEL=FOLDER.", "path": "folder"},
    )
    published: str | None = field(
        default=None, metadata={"help": "CSV file of published figures, to be shown beside these.", "path": "file"}
    )
    num_gallery_queries: int = field(default=500, metadata={"help": "Queries to browse in the page.", "min": 0})
    title: str | None = field(default=None, metadata={"help": "Title of the report; default: the evaluation's name."})

    def __post_init__(self):
        check_fields(self)
        # A recipe may name a single folder without a list.
        if isinstance(self.evaluation, str):
            self.evaluation = [self.evaluation]
        if isinstance(self.training, str):
            self.training = [self.training]
