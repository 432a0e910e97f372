# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The figures that others have published, to stand beside one's own and never among them.

`published_okvqa.csv` holds every OKVQA cell of the Lever-Plus README and its report of 2026-01-09: percent, without
intervals; beams of 64 candidates for 800 queries, by InfoScore, new demonstrations on the left, two in training.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ..metrics import METRICS


SOURCE = (
    "Published figures: the Lever-Plus README and its report of 2026-01-09 (OKVQA; selectors trained on the beams of "
    "800 queries with 64 candidates and 2 shots). They come without intervals and without zero-shot, and nobody has "
    "measured them here. Their v2 and v2_lora agree to the last digit in most cells, as two working models would not."
)
SAMPLERS = ("random", "text_sim", "image_sim", "mix")
#: published name -> what the name of a VLM holds, without punctuation
MODELS = {"Flamingo-3B": "flamingo3b", "Qwen2.5-VL-3B-Instruct": "qwen25vl3b"}


@dataclass(frozen=True)
class Published:
    """One published row: a selector's accuracies in percent with candidates of one sampler, by number of shots."""

    model: str
    version: str
    test_samples: str
    sampler: str
    accuracies: Mapping[int, float]


def is_okvqa(results: Mapping) -> bool:
    """Whether an evaluation is of the accuracy on OKVQA, by the name of its dataset or by its metric."""
    named = re.search(r"ok[-_ ]?vqa", results["dataset"], re.IGNORECASE) or results["metric"].startswith("okvqa")
    return bool(named) and METRICS[results["metric"]].in_percent


def published_model(vlm: str) -> str | None:
    """The published name of a VLM, or `None` for one that nobody has published on."""
    plain = re.sub(r"[^a-z0-9]", "", vlm.lower())
    return next((model for model, mark in MODELS.items() if mark in plain), None)


@cache
def published_okvqa() -> list[Published]:
    """All rows of `published_okvqa.csv`. What the source gives twice with different values is named by its section."""
    text = resources.files(__package__).joinpath("published_okvqa.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found: dict[tuple, dict[str, dict[int, float]]] = {}
    for row in csv.DictReader(lines):
        for sampler in SAMPLERS:
            if row[sampler]:
                key = (row["model"], row["version"], row["test_samples"], sampler)
                of_section = found.setdefault(key, {}).setdefault(row["section"], {})
                of_section[int(row["shots"])] = float(row[sampler])
    rows = []
    for (model, version, test_samples, sampler), by_section in found.items():
        distinct: dict[str, dict[int, float]] = {}
        for section, accuracies in by_section.items():
            if accuracies not in distinct.values():
                distinct[section] = accuracies
        for section, accuracies in distinct.items():
            name = version if len(distinct) == 1 else f"{version} (its section {section})"
            rows.append(Published(model, name, test_samples, sampler, accuracies))
    return rows
