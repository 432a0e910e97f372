# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Builds the documentation site without network access: `make docs`."""

import re

import leverplus_trl


project = "leverplus_trl"
author = "The leverplus_trl team"
project_copyright = "2026, The leverplus_trl team"
release = leverplus_trl.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
#: The source folder is the repository's root, so links between all of these pages are checked.
root_doc = "docs/index"
include_patterns = ["README.md", "docs/*.md", "recipes/**/README.md", "recipes/README.md", "benchmarks/README.md"]
exclude_patterns = [".*", "build", "data", "downloads", "leverplus_trl", "outputs", "tests"]
html_theme = "furo"
html_title = f"leverplus_trl {release}"

nitpicky = True
#: Exceptions, and the classes of transformers, which no page here describes.
nitpick_ignore_regex = [("py:exc", r".*"), ("py:class", r"transformers\..*")]
#: Headings down to this level get the anchors that GitHub gives them, so one link works in both places.
myst_heading_anchors = 4
#: Docstrings name the types; annotations would link to libraries that this build does not read.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
#: A configuration has more than a hundred arguments, most of them of `transformers.TrainingArguments`.
MAX_SIGNATURE = 400


def docstring_to_rst(app, what, name, obj, options, lines: list[str]) -> None:
    """Rewrites a docstring of Hugging Face's style in place: fenced code, [`Name`] links, `literals`."""
    text = re.sub(r"^( *)```python\n(.*?)^ *```", _code_block, "\n".join(lines) + "\n", flags=re.M | re.S)
    text = re.sub(r"\[`~?([\w.]+)`\]", _link, text)
    text = re.sub(r"(?<![`:\w])`([^`\n]+)`(?!`)", r"``\1``\\ ", text)
    head, raises, tail = text.partition("Raises:\n")
    lines[:] = (head + raises + re.sub(r"^( +)``(\w+)``\\ :", r"\1\2:", tail, flags=re.M)).split("\n")


def _code_block(match: re.Match) -> str:
    indent, body = match.groups()
    lines = "\n".join(f"    {line}" if line else line for line in body.splitlines())
    return f"{indent}.. code-block:: pycon\n\n{lines}\n"


def _link(match: re.Match) -> str:
    name = match[1]
    public = name.split(".")[0] in leverplus_trl.__all__
    return f":py:obj:`~leverplus_trl.{name}`" if public else f"`{name}`"


def shorten_signature(app, what, name, obj, options, signature: str | None, return_annotation: str | None):
    """Replaces a signature that would fill the screen; the arguments stand in the docstring."""
    return ("(...)" if signature and len(signature) > MAX_SIGNATURE else signature), return_annotation


def setup(app) -> None:
    # Before napoleon, which expects reStructuredText inside its sections.
    app.connect("autodoc-process-docstring", docstring_to_rst, priority=400)
    app.connect("autodoc-process-signature", shorten_signature)
