# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Requests in, answers out: how a VLM is prompted, how its reply becomes a prediction, and the score of that."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__, {"answerer": ("Answer", "Answerer"), "direct": ("Generate", "Protocol", "Reply", "direct")}
)
