# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Prompt templates: `{name}` is a field, `{{name}}` is the text "{name}", and any other brace is text."""

import re
from collections.abc import Mapping


_FIELD = re.compile(r"\{\{([^\W\d]\w*)\}\}|\{([^\W\d]\w*)\}")


def template_fields(template: str) -> list[str]:
    """The distinct names of a template's fields, in order."""
    return list(dict.fromkeys(match[2] for match in _FIELD.finditer(template) if match[2]))


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Replaces the fields of a template by their values; braces in a value are kept."""
    return _FIELD.sub(lambda match: values[match[2]] if match[2] else f"{{{match[1]}}}", template)
