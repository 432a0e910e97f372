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

"""Templates of prompts: `{name}` is a field, `{{name}}` is the text "{name}", any other brace is text."""

import re
from collections.abc import Mapping


_FIELD = re.compile(r"\{\{([^\W\d]\w*)\}\}|\{([^\W\d]\w*)\}")


def template_fields(template: str) -> list[str]:
    """The names of the fields of a template, each once, in their order."""
    return list(dict.fromkeys(match[2] for match in _FIELD.finditer(template) if match[2]))


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """The template with the values of its fields; braces in a value stay as they are."""
    return _FIELD.sub(lambda match: values[match[2]] if match[2] else f"{{{match[1]}}}", template)
