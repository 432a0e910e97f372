# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Requests in, answers out: how a VLM is asked, how its words become a prediction, and what that scores."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__, {"answerer": ("Answer", "Answerer"), "direct": ("direct",), "reply": ("Generate", "Protocol", "Reply")}
)
