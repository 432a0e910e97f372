# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Writes `transformers_fields.py`: the fields of `transformers.TrainingArguments`, whose import takes seconds.

```bash
python -m leverplus_trl.trainer.list_transformers_fields
```
"""

import dataclasses
import enum
import inspect
import types
import typing
from pathlib import Path

import transformers
from transformers import TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..fields import members


FILE = Path(__file__).with_name("transformers_fields.py")
_LIMITS = {
    **{key: {"min": 0, "max": 2**32 - 1} for key in ("seed", "data_seed")},
    **{key: {"min": 0, "below": 1} for key in ("adam_beta1", "adam_beta2")},
    **{key: {"min": 1} for key in ("gradient_accumulation_steps", "eval_accumulation_steps", "ddp_timeout")},
    **{key: {"min": 1} for key in ("torch_empty_cache_steps", "dataloader_prefetch_factor", "ddp_bucket_cap_mb")},
    **{key: {"min": 0} for key in ("max_grad_norm", "dataloader_num_workers", "eval_delay")},
    "adam_epsilon": {"above": 0},
    "report_to": {"choices": ("all", "none", *sorted(INTEGRATION_TO_CALLBACK))},
}
_PLAIN = (bool, int, float, str, dict, list, type(None))


def _plain(kind: typing.Any) -> str:
    """A type by the names of built-in ones; an `Enum` is text, and anything else is `Any`."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "str"
    if typing.get_origin(kind) is typing.Literal:
        return " | ".join(dict.fromkeys(type(one).__name__ for one in typing.get_args(kind)))
    if typing.get_origin(kind) is list:
        return f"list[{_plain(typing.get_args(kind)[0])}]"
    if typing.get_origin(kind) is dict:
        return f"dict[{', '.join(map(_plain, typing.get_args(kind)))}]"
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        names = dict.fromkeys(map(_plain, members(kind)))
        return " | ".join([*(name for name in names if name != "None"), *(["None"] if "None" in names else [])])
    return "None" if kind is type(None) else kind.__name__ if kind in _PLAIN else "Any"


def source() -> str:
    """The text of the module."""
    hints = typing.get_type_hints(TrainingArguments)
    lines = []
    for one in dataclasses.fields(TrainingArguments):
        enums = [kind for kind in members(hints[one.name]) if isinstance(kind, type) and issubclass(kind, enum.Enum)]
        limits = dict(_LIMITS.get(one.name, {}))
        choices = tuple(item.value for kind in enums for item in kind) or tuple(one.metadata.get("choices") or ())
        if choices:
            limits["choices"] = choices
        default = f"default={one.default!r}"
        if one.default_factory is not dataclasses.MISSING:
            default = f"default_factory={one.default_factory.__name__}"
        kind = _plain(hints[one.name])
        if one.name.endswith("_kwargs"):  # a text is JSON on the command line, which is a mapping here
            kind = kind.replace(" | str", "")
        lines.append(f"    {one.name}: {kind} = field({default}{f', metadata={limits!r}' if limits else ''})")
    licence = inspect.getsource(inspect.getmodule(source)).partition('\n"""')[0]
    return f'''\
{licence}
"""The fields of `transformers.TrainingArguments`; by `python -m leverplus_trl.trainer.list_transformers_fields`."""

from dataclasses import dataclass, field
from typing import Any


VERSION = "{transformers.__version__}"


@dataclass
class TransformersFields:
    """Those of that version."""

{chr(10).join(lines)}
'''


def listed() -> type:
    """The fields of the version that is installed."""
    found: dict[str, typing.Any] = {}
    exec(source(), found)
    return found["TransformersFields"]


if __name__ == "__main__":
    FILE.write_text(source(), encoding="utf-8")
