# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The fields of `transformers.TrainingArguments`, whose import takes seconds: a JSON file lists those of one version.
`python -m leverplus_trl.trainer.transformers_fields` writes it."""

import dataclasses
import enum
import json
import typing
from pathlib import Path
from typing import Any

from ..fields import members


_FILE = Path(__file__).with_suffix(".json")
_LIMITS = {
    **{key: {"min": 0, "max": 2**32 - 1} for key in ("seed", "data_seed")},
    **{key: {"min": 0, "below": 1} for key in ("adam_beta1", "adam_beta2")},
    **{key: {"min": 1} for key in ("gradient_accumulation_steps", "eval_accumulation_steps", "ddp_timeout")},
    **{key: {"min": 1} for key in ("torch_empty_cache_steps", "dataloader_prefetch_factor", "ddp_bucket_cap_mb")},
    **{key: {"min": 0} for key in ("max_grad_norm", "dataloader_num_workers", "eval_delay")},
    "adam_epsilon": {"above": 0},
}


def fields_class(rows: list[list]) -> type:
    """A dataclass of rows `[name, type, default, limits]`; the types are written with built-in names and `Any`."""
    fields = []
    for name, kind, default, limits in rows:
        metadata = {key: tuple(limit) if key == "choices" else limit for key, limit in limits.items()}
        value = {"default_factory": type(default)} if isinstance(default, list | dict) else {"default": default}
        fields.append((name, kind, dataclasses.field(**value, metadata=metadata)))
    # `Any` is resolved in this module when the types are read.
    return dataclasses.make_dataclass("TransformersFields", fields, namespace={"__module__": __name__, "Any": Any})


def installed_fields() -> list[list]:
    """The rows of [`fields_class`] for the installed version of transformers."""
    from transformers import TrainingArguments
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    hints, rows = typing.get_type_hints(TrainingArguments), []
    for field in dataclasses.fields(TrainingArguments):
        limits = dict(_LIMITS.get(field.name, {}))
        choices = [item.value for kind in members(hints[field.name]) if _is_enum(kind) for item in kind]
        choices = choices or list(field.metadata.get("choices") or ())
        if field.name == "report_to":
            choices = ["all", "none", *sorted(INTEGRATION_TO_CALLBACK)]
        if choices:
            limits["choices"] = choices
        has_factory = field.default_factory is not dataclasses.MISSING
        kind = _type_name(hints[field.name])
        if field.name.endswith("_kwargs"):  # on the command line the text is JSON, in a recipe it is a mapping
            kind = kind.replace(" | str", "")
        rows.append([field.name, kind, field.default_factory() if has_factory else field.default, limits])
    return rows


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def _type_name(kind: Any) -> str:
    """A type in built-in names; an `Enum` is text, a literal the type of its values, and any other class is `Any`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if len(members(kind)) > 1:
        names = dict.fromkeys(map(_type_name, arguments))
        return " | ".join(sorted(names, key="None".__eq__))  # `None` comes last
    if origin is typing.Literal:
        return type(arguments[0]).__name__
    if origin in (list, dict):
        return f"{origin.__name__}[{', '.join(map(_type_name, arguments))}]"
    if kind is type(None):
        return "None"
    if _is_enum(kind):
        return "str"
    return kind.__name__ if kind in (bool, int, float, str, dict, list) else "Any"


_LISTED = json.loads(_FILE.read_text(encoding="utf-8"))
#: The version of transformers whose fields the file lists.
VERSION: str = _LISTED["version"]
TransformersFields = fields_class(_LISTED["fields"])

if __name__ == "__main__":
    import transformers

    lines = ",\n".join(f"    {json.dumps(row)}" for row in installed_fields())
    _FILE.write_text(f'{{\n  "version": "{transformers.__version__}",\n  "fields": [\n{lines}\n  ]\n}}\n', "utf-8")
