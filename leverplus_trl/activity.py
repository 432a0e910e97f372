# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Names what a function does, for the sentence about an error that another library raises in it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


def doing(what: str) -> Callable[[Callable], Callable]:
    """
    Decorates a function with what it does.

    Args:
        what (`str`):
            In words, with fields for its arguments: `"loading the VLM {args.vlm!r}"`.
    """

    def decorate(function: Callable) -> Callable:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if activity_of(error) is None:
                    error.activity = what.format(**signature.bind(*args, **kwargs).arguments)
                raise

        return named

    return decorate


def activity_of(error: BaseException) -> str | None:
    """What was being done when an error was raised: the innermost activity that has a name."""
    return getattr(error, "activity", None)
