# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Writes `transformers_fields.json`: the fields of `transformers.TrainingArguments`, whose import takes seconds.

```bash
python -m leverplus_trl.trainer.list_transformers_fields
```
"""

import dataclasses
import enum
import json
import types
import typing

import transformers
from transformers import TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..fields import members
from .transformers_fields import FILE, fields_class


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
    """A type by the names of built-in types; an `Enum` is text, and any other class is `Any`."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "str"
    if typing.get_origin(kind) is typing.Literal:
        return " | ".join(dict.fromkeys(type(value).__name__ for value in typing.get_args(kind)))
    if typing.get_origin(kind) is list:
        return f"list[{_plain(typing.get_args(kind)[0])}]"
    if typing.get_origin(kind) is dict:
        return f"dict[{', '.join(map(_plain, typing.get_args(kind)))}]"
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        names = dict.fromkeys(map(_plain, members(kind)))
        return " | ".join([*(name for name in names if name != "None"), *(["None"] if "None" in names else [])])
    return "None" if kind is type(None) else kind.__name__ if kind in _PLAIN else "Any"


def rows() -> list[list]:
    """`[name, type, default, limits]` of each field of the installed version."""
    hints = typing.get_type_hints(TrainingArguments)
    listed = []
    for field in dataclasses.fields(TrainingArguments):
        enums = [kind for kind in members(hints[field.name]) if isinstance(kind, type) and issubclass(kind, enum.Enum)]
        limits = dict(_LIMITS.get(field.name, {}))
        choices = [item.value for kind in enums for item in kind] or list(field.metadata.get("choices") or ())
        if choices:
            limits["choices"] = choices
        has_factory = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if has_factory else field.default
        kind = _plain(hints[field.name])
        if field.name.endswith("_kwargs"):  # on the command line the text is JSON, in a recipe it is a mapping
            kind = kind.replace(" | str", "")
        listed.append([field.name, kind, default, limits])
    return listed


def listed() -> type:
    """The fields of the installed version, as a dataclass."""
    return fields_class(rows())


if __name__ == "__main__":
    lines = ",\n".join(f"    {json.dumps(row)}" for row in rows())
    FILE.write_text(f'{{\n  "version": "{transformers.__version__}",\n  "fields": [\n{lines}\n  ]\n}}\n', "utf-8")
