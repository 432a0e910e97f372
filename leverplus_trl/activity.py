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
