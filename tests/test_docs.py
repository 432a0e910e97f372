# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What README.md and docs/ show exists and parses. `make docs` checks their links and the API reference."""

import re

import pytest
from paths import ROOT

import leverplus_trl
from leverplus_trl.recipe import parse_recipe
from leverplus_trl.scripts.parsers import make_parser


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
IDS = [page.stem for page in PAGES]


def blocks(page, language):
    fenced = re.findall(r"^```(\S*)\n(.*?)^```$", page.read_text(), flags=re.M | re.S)
    return [text for said, text in fenced if said == language]


def test_the_api_reference_documents_exactly_the_public_names():
    # Names of subpackages (leverplus_trl.vlms.VLMFamily) may stand beside them: `make docs` imports every one.
    names = re.findall(r":: leverplus_trl\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), flags=re.M)
    assert sorted(names) == sorted(leverplus_trl.__all__)


def test_recipes_in_the_pages_parse(tmp_path):
    recipes = [block for page in PAGES for block in blocks(page, "yaml") if block.startswith("stage:")]
    for recipe in recipes:
        file = tmp_path / "recipe.yaml"
        file.write_text(recipe)
        stage = parse_recipe(recipe, "recipe.yaml").text("stage")
        make_parser(stage).parse_args_and_config(["--config", str(file)])
    assert len(recipes) == 7


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_name_stages_and_recipes_that_exist(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = page.read_text()
    for stage, recipe in re.findall(r"leverplus (\w+) --config (recipes/\S+?\.yaml)", text):
        if stage != "merge":  # takes the recipe of another stage
            make_parser(stage).parse_args_and_config(["--config", recipe])
    for file in re.findall(r"\b(?:recipes|accelerate_configs|benchmarks|tests)/[\w./]+\.(?:yaml|sh|py)", text):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "source_tree.md"], ids=lambda page: page.stem)
def test_source_trees_name_what_exists(page):
    (tree,) = [block for block in blocks(page, "") if "accelerate_configs/" in block]
    names = re.findall(r"^( {0,2})([\w./]+) ", tree, flags=re.M)
    assert len(names) > 6
    for indent, name in names:
        assert (ROOT / ("leverplus_trl" if indent else "") / name).exists(), name
