# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Beam search over ordered demonstrations, InfoScore, and the tables that a search leaves."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "beam_generation": ("generate_beams", "search_unit", "write_beam_dataset"),
        "beam_search": ("BeamArguments", "Beams", "beam_search", "insert", "num_scored_sequences", "selection_order"),
        "info_score": ("ScoredPrompt", "answer_score", "info_score", "ledger_prompts"),
    },
)
