# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What both trainers ask of a selector: logits, greedy selections and the measures of an evaluation. Only `forward` of
the model is called, so a wrapped model works, too."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from ..selectors.collapse import measure_collapse
from ..selectors.encoder_lora import ENCODER_INPUTS


Batch = dict[str, torch.Tensor]

SELECTOR_INPUTS = ("query_embeds", "candidate_embeds", "candidate_mask", "candidate_rows", *ENCODER_INPUTS)


def sequence_logits(model, inputs: Batch, positions: torch.Tensor) -> torch.Tensor:
    """Logits `[B, G, S, A]` at each step of the sequences `positions` `[B, G, S]`."""
    given = {name: inputs[name] for name in SELECTOR_INPUTS if name in inputs}
    logits = model(**given, demonstration_positions=positions).logits
    # In half precision, disallowed actions have the lowest number of that dtype, not that of single precision.
    masked = logits <= torch.finfo(torch.float16).min
    return logits.float().masked_fill(masked, torch.finfo(torch.float32).min)


def has_stop(logits: torch.Tensor, inputs: Batch) -> bool:
    """Whether the last action is STOP. A wrapped model hides its config, so this is read from the shapes."""
    return logits.shape[-1] > inputs["candidate_mask"].shape[-1]


def greedy_positions(model, inputs: Batch, num_shots: int) -> torch.Tensor:
    """Greedy selection `[B, S]`; -1 after the end of a sequence."""
    num_candidates = inputs["candidate_mask"].shape[-1]
    positions = torch.full_like(inputs["candidate_rows"][:, :1], -1).repeat(1, num_shots)  # [B, S]
    going_on = torch.ones_like(positions[:, 0], dtype=torch.bool)  # [B]
    for step in range(num_shots):
        actions = sequence_logits(model, inputs, positions)[:, step].argmax(-1)  # [B, S, A] -> [B]
        going_on = going_on & (actions < num_candidates)
        positions[:, step] = torch.where(going_on, actions, -1)
    return positions


def greedy_selections(model, inputs: Batch, num_shots: int) -> Batch:
    """
    Greedy selections of a batch: `positions` among the candidates, their `rows` in the pool, and `swapped_rows`, the
    rows selected for the next query from the same candidates. Each has the shape `[B, S]`; -1 is padding.
    """
    others = inputs | {"query_embeds": inputs["swapped_query_embeds"]}
    positions, swapped = (greedy_positions(model, batch, num_shots) for batch in (inputs, others))  # [B, S] both
    rows, swapped_rows = (
        torch.where(chosen >= 0, inputs["candidate_rows"].gather(1, chosen.clamp(min=0)), -1)
        for chosen in (positions, swapped)
    )  # [B, S] both
    return {"positions": positions, "rows": rows, "swapped_rows": swapped_rows}


def query_means(measures: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean of each measure over queries; `{name}_margin` is half of its 95% interval (normal approximation)."""
    metrics = {}
    for name, values in measures.items():
        if len(values):
            metrics[name] = float(values.mean())
        if len(values) > 1:
            metrics[f"{name}_margin"] = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return metrics


def collapse_metrics(selections: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The measures of [`measure_collapse`] for the [`greedy_selections`] of an evaluation."""
    rows, positions = selections["rows"].tolist(), selections["positions"].tolist()
    collapse = measure_collapse(rows, positions, selections["swapped_rows"].tolist() if len(rows) > 1 else None)
    names = ("id_entropy", "position_entropy", "most_common_share", "collapsed", "swap_change_share")
    values = {name: getattr(collapse, name) for name in names}
    return {name: float(value) for name, value in values.items() if value is not None}
