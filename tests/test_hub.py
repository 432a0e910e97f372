# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Sharing: one process pushes, another one, which knows only names, loads. Between them stands a hub that runs here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fake_hub import USER
from paths import ROOT

from leverplus_trl.provenance import dataset_hash
from leverplus_trl.schema import BEAMS, ROLLOUTS
from leverplus_trl.stage_arguments import HubArguments
from leverplus_trl.tables import read_table


def run_process(script: str, hub, home: Path, *arguments: str) -> dict:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = hub.environment(home) | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / script), *arguments]
    found = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-6000:]
    return json.loads(found.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def pushed(fake_hub, folder, tmp_path_factory):
    return run_process("hub_push.py", fake_hub, tmp_path_factory.mktemp("home"), str(folder))


@pytest.fixture(scope="module")
def loaded(fake_hub, pushed, folder, tmp_path_factory):
    commits = (pushed["beams"], *pushed["changing"])
    return run_process("hub_load.py", fake_hub, tmp_path_factory.mktemp("fresh_home"), str(folder), *commits)


def card_of(hub, kind: str, name: str) -> tuple[dict, str]:
    text = hub.files(kind, f"{USER}/{name}")["README.md"].decode()
    return yaml.safe_load(text.split("---\n")[1]), text


def test_a_selector_loaded_by_its_name_chooses_as_before(pushed, loaded):
    assert len(pushed["chosen"]) == 8 and all(len(ids) == 2 for ids, _ in pushed["chosen"])
    for name, found in loaded["selectors"].items():
        assert found["types"] == ["PointerSelectorConfig", "PointerSelectorModel", "SelectorProcessor"], name
        for chosen in found["chosen"]:
            assert [ids for ids, _ in chosen] == [ids for ids, _ in pushed["chosen"]], name
            assert [p for _, p in chosen] == pytest.approx([p for _, p in pushed["chosen"]], abs=1e-4), name


def test_what_training_pushes_is_the_selector_with_its_card_and_nothing_else(fake_hub, pushed, folder):
    files = fake_hub.files("models", "user/selector")
    made = {"README.md", "config.json", "model.safetensors", "processor_config.json", "trainer_state.json"}
    assert set(files) == made | {"recipe.yaml", "provenance.json", ".gitattributes"}
    assert list((folder / "sft").glob("checkpoint-*"))  # which stay where they are
    assert not list((folder / "sft").rglob("*.bin"))
    for name in made - {"README.md"}:
        assert files[name] == (folder / "sft" / name).read_bytes(), name
    # One commit a push, and none by the run that found everything done.
    assert len(fake_hub.repositories["models/user/selector"].commits) == 2


def test_the_model_card_is_filled_from_the_run(fake_hub, pushed, folder):
    metadata, card = card_of(fake_hub, "models", "selector")
    assert metadata["library_name"] == "transformers" and "pointer_selector" in metadata["tags"]
    assert "datasets" not in metadata  # the beams were a folder: no name that the hub knows
    assert 'from_pretrained("user/selector", pool=pool)' in card and "PATH_OR_HUB_ID" not in card
    for words in ("| VLM that scored | a rule |", "| training queries | 24 |", "| loss | listwise |"):
        assert words in card
    history = json.loads((folder / "sft" / "trainer_state.json").read_text())["log_history"]
    last = [entry for entry in history if "eval_regret" in entry][-1]
    for name in ("regret", "info_score"):
        assert f"| {last[f'eval_{name}']:.4f} ± {last[f'eval_{name}_margin']:.4f} |" in card
    # Five lines are enough to use it.
    assert len([line for line in card.split("```")[1].splitlines()[1:] if line]) <= 5


def test_a_card_goes_with_its_selector_and_names_where_it_now_is(fake_hub, pushed):
    _, first = card_of(fake_hub, "models", "selector")
    _, copy = card_of(fake_hub, "models", "copy")
    assert copy == first.replace('"user/selector"', '"user/copy"') and "± " in copy
    _, unsaved = card_of(fake_hub, "models", "unsaved")
    assert "| VLM that scored | a rule |" in unsaved and 'from_pretrained("user/unsaved"' in unsaved
    assert fake_hub.repositories["models/user/copy"].private
    assert not fake_hub.repositories["models/user/selector"].private


def test_tables_loaded_by_their_name_are_those_that_were_pushed(fake_hub, folder, loaded, pushed):
    for name, features in {"beams": BEAMS, "rollouts": ROLLOUTS}.items():
        local = read_table(str(folder / name), name, "train", features)
        assert loaded["tables"][name] == dataset_hash(local), name
    assert loaded["rollouts"] == [-2.0, None]
    assert loaded["pool"] == loaded["pool_by_recipe"] == pushed["pool"]
    assert fake_hub.repositories["datasets/user/rollouts"].private
    metadata, card = card_of(fake_hub, "datasets", "beams")
    assert [config["config_name"] for config in metadata["configs"]] == ["beams", "ledger"]
    assert metadata["leverplus_trl"]["recipe"]["vlm"] == "a rule" and 'load_dataset("user/beams", "ledger")' in card


def test_a_revision_is_read_as_it_was(fake_hub, pushed, loaded):
    old, new, latest = loaded["changing"]
    assert old == {"splits": ["train"], "recipe": ["train"], "rows": ["1 splits"]}
    assert new == latest == {"splits": ["train", "test"], "recipe": ["train", "test"], "rows": ["2 splits"]}
    tables = [path for path in fake_hub.files("datasets", "user/changing") if path.startswith("data/")]
    assert len(tables) == 2  # nothing of the old table is left in the new state
    assert not loaded["dry_run_wrote"]


def test_the_snippets_of_the_cards_run(loaded):
    found = loaded["snippets"]
    assert found["shots"] == 2 and found["question"] == "what is it ?"
    assert found["splits"]["beams"] == {"train": 24, "validation": 8}
    assert found["splits"]["ledger"]["train"] > 24


def test_the_stage_beams_pushes_when_it_is_complete(fake_hub, pushed):
    first, second = pushed["searched"]
    assert first == second and len(first) == 40  # what is there already makes no new commit
    metadata, _ = card_of(fake_hub, "datasets", "searched")
    assert metadata["leverplus_trl"]["stage"] == "beams"
    assert len(fake_hub.repositories["datasets/user/searched"].commits) == 2


def test_what_could_not_be_pushed_is_refused_before_the_work(fake_hub, pushed):
    found = pushed["refusals"]
    assert "'user/searched': 401" in found["no token"] and "hf auth login" in found["no token"]
    assert "'others/searched'" in found["others"] and "this token may write to" in found["others"]
    assert "model repository 'others/selector'" in found["selector"]
    assert "has no README.md" in found["no tables"]
    assert found["written"] is False
    assert not any(name.startswith(("datasets/others", "datasets/user/dry")) for name in fake_hub.repositories)


@pytest.mark.parametrize("name", ["beams", "user/a/b", "user/a b"])
def test_a_name_that_no_repository_can_have(name):
    with pytest.raises(ValueError, match=r"push_to_hub is .* expected"):
        HubArguments(push_to_hub=name)
