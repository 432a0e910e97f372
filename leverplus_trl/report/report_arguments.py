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

"""The recipe keys of the `report` stage."""

from dataclasses import dataclass, field


@dataclass
class ReportArguments:
    """
    What to report on and where to write it.

    Args:
        evaluation (`str`):
            Folder that the evaluate stage wrote: `results.json` and `predictions`.
        output_dir (`str`):
            Folder for the report.
        beams (`str`, *optional*):
            Beam table for the chart of scores by beam position; without it there is no such chart.
        num_gallery_queries (`int`, *optional*, defaults to 12):
            Queries to show with their chosen demonstrations.
        title (`str`, *optional*):
            Title of the report; by default the name of the evaluation.
    """

    evaluation: str = field(metadata={"help": "Folder that the evaluate stage wrote (results.json and predictions)."})
    output_dir: str = field(metadata={"help": "Folder for index.html, report.md, results.csv and the charts."})
    beams: str | None = field(default=None, metadata={"help": "Beam table for the chart of scores by beam position."})
    num_gallery_queries: int = field(default=12, metadata={"help": "Queries to show with their demonstrations."})
    title: str | None = field(default=None, metadata={"help": "Title of the report; default: the evaluation's name."})

    def __post_init__(self):
        if self.num_gallery_queries < 0:
            raise ValueError(f"num_gallery_queries is {self.num_gallery_queries}; expected 0 or more.")
