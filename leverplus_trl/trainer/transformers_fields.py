# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The fields of `transformers.TrainingArguments`, read from `transformers_fields.json`: importing that class takes
seconds. `python -m leverplus_trl.trainer.list_transformers_fields` writes the file."""

import dataclasses
import json
from pathlib import Path
from typing import Any


FILE = Path(__file__).with_suffix(".json")


def fields_class(rows: list[list]) -> type:
    """A dataclass of rows `[name, type, default, limits]`; the types are written with built-in names and `Any`."""
    members = []
    for name, kind, default, limits in rows:
        metadata = {key: tuple(limit) if key == "choices" else limit for key, limit in limits.items()}
        value = {"default_factory": type(default)} if isinstance(default, list | dict) else {"default": default}
        members.append((name, kind, dataclasses.field(**value, metadata=metadata)))
    # `Any` is resolved in this module when the types are read.
    return dataclasses.make_dataclass("TransformersFields", members, namespace={"__module__": __name__, "Any": Any})


_LISTED = json.loads(FILE.read_text(encoding="utf-8"))
#: The version of transformers whose fields the file lists.
VERSION: str = _LISTED["version"]
TransformersFields = fields_class(_LISTED["fields"])
