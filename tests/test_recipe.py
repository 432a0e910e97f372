# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a recipe may say, and in which words it is refused."""

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any

import pytest

from leverplus_trl.fields import check_fields, convert
from leverplus_trl.recipe import UsageError, parse_recipe, raw, read_recipe
from leverplus_trl.recipe_parser import RecipeParser, is_required
from leverplus_trl.scripts.parsers import PARSERS, make_parser, transformers_fields
from leverplus_trl.scripts.training import plain_arguments
from leverplus_trl.trainer import OfflineGRPOConfig, SelectorSFTConfig
from leverplus_trl.trainer.transformers_fields import VERSION, TransformersFields, fields_class, installed_fields


def value_of(text, kind, **limits):
    return convert("key", parse_recipe(f"key: {text}", "r.yaml").values["key"], kind, limits)


@pytest.mark.parametrize(
    "text, kind, expected",
    [
        ("64", int, 64),
        ("1_000", int, 1000),
        ("-1", int, -1),
        ("1e-4", float, 1e-4),
        ("1", float, 1.0),
        (".5", float, 0.5),
        ("yes", bool, True),
        ("off", bool, False),
        ("0123456", str, "0123456"),
        ("12e4567", str, "12e4567"),
        ("2019-01-01", str, "2019-01-01"),
        ("1:30", str, "1:30"),
        ("'yes'", str, "yes"),
        ("null", str | None, None),
        ("~", int | None, None),
        ("'null'", str | None, "null"),
        ("[yes, no]", list[str], ["yes", "no"]),
        ("[on, 1.50, 2019-01-01]", list[str], ["on", "1.50", "2019-01-01"]),
        ("[1, 2]", list[float], [1.0, 2.0]),
        ("{question: text, answer: no}", dict[str, str], {"question": "text", "answer": "no"}),
        ("{train: [a.csv, b.csv]}", dict[str, str | list[str]] | str, {"train": ["a.csv", "b.csv"]}),
        ("{num_cycles: 1, min_lr: 1e-6, flag: yes}", dict, {"num_cycles": 1, "min_lr": 1e-6, "flag": True}),
        ("5", dict[str, int] | int, 5),
        ("{a: null, b: {c: [1, {d: x}]}}", dict, {"a": None, "b": {"c": [1, {"d": "x"}]}}),
    ],
)
def test_values_have_the_type_of_their_field(text, kind, expected):
    found = value_of(text, kind)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "text, kind, limits, message",
    [
        ("many", int, {"min": 1}, "key is many; expected a whole number of at least 1."),
        ("'64'", int, {}, "key is '64'; expected a whole number. Leave out the quotes."),
        ("64.0", int, {}, "key is 64.0; expected a whole number. Write 64."),
        ("1e3", int, {}, "key is 1e3; expected a whole number. Write 1000."),
        ("010", int, {}, "YAML reads 010 as 8: write a plain decimal number."),
        ("0x10", int, {}, "YAML reads 0x10 as 16"),
        ("1:30", int, {}, "YAML reads 1:30 as 90"),
        ("true", int, {}, "key is true; expected a whole number."),
        ("null", int, {}, "key is null; expected a whole number."),
        ("", int, {}, "key is null; expected a whole number."),
        ("[1]", int, {}, "key is the list [1]; expected a whole number."),
        ("{a: 1}", int, {}, "key is the mapping {a: 1}; expected a whole number."),
        ("9223372036854775808", int, {}, "key is 9223372036854775808"),
        ("9" * 5000, int, {}, "expected a whole number"),
        (".nan", float, {}, "key is .nan; expected a number."),
        ("nan", float, {}, "key is nan; expected a number."),
        ("-.inf", float, {}, "key is -.inf; expected a number."),
        ("1e999", float, {}, "key is 1e999; expected a number."),
        ("'0.5'", float, {}, "Leave out the quotes."),
        ("010", float, {}, "key is 010; expected a number."),
        ("0", float, {"above": 0}, "key is 0; expected a number above 0."),
        ("1", float, {"min": 0, "below": 1}, "key is 1; expected a number of at least 0 and below 1."),
        ("7", int, {"max": 5}, "key is 7; expected a whole number of at most 5."),
        ("1", bool, {}, "key is 1; expected true or false."),
        ("'true'", bool, {}, "expected true or false. Leave out the quotes."),
        ("no", str | None, {}, 'YAML reads no as a boolean: write "no" for the text, or null for nothing.'),
        ("''", str, {}, "key is empty; expected text."),
        ("' '", str | None, {}, "key is ' '; expected text, or null. Leave the key out instead."),
        ('"a\\0b"', str, {}, "expected text"),
        ("null", str, {}, "key is null; expected text."),
        ("[a]", str, {}, "key is the list [a]; expected text."),
        ("train", list[str], {}, "key is train; expected a list of texts. Write [train]."),
        ("[a, null]", list[str], {}, "Item 2 of key is null; expected text."),
        ("[a, [b]]", list[str], {}, "Item 2 of key is [b]; expected text."),
        ("[1, a]", list[int], {"min": 1}, "Item 2 of key is a; expected a whole number of at least 1."),
        (
            "[]",
            list[str],
            {"not_empty": True},
            "key is an empty list; expected a list of texts, and at least one item in it.",
        ),
        (
            "[a, a]",
            list[str],
            {"unique": True},
            "key is [a, a], which names something twice; expected different items.",
        ),
        ("middle", str, {"choices": ("left", "right")}, "key is 'middle'; expected one of left, right."),
        ("{a: [1]}", dict[str, str], {}, "key['a'] is the list [1]; expected text."),
        ("{a: x}", dict[str, int] | int, {}, "key['a'] is x; expected a whole number."),
        ("[a]", dict[str, str] | None, {}, "key is the list [a]; expected a mapping from names to texts, or null."),
    ],
)
def test_another_value_is_refused_with_what_was_expected(text, kind, limits, message):
    with pytest.raises(ValueError) as refused:
        value_of(text, kind, **limits)
    assert message in str(refused.value)


def test_a_folder_where_a_file_belongs_and_the_reverse_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="which is a folder; expected a file"):
        value_of(str(tmp_path), str, path="file")
    with pytest.raises(ValueError, match="which is a file; expected a folder"):
        value_of(f"[NAME={tmp_path / 'file'}]", list[str], path="folder")
    assert value_of(str(tmp_path / "new"), str, path="folder") == str(tmp_path / "new")


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\nb: 2\na: 3\n", "r.yaml, line 3: the key 'a' was set in line 1 already; keep one."),
        ("a: {b: 1, b: 2}\n", "r.yaml, line 1: the key 'b' was set in line 1 already"),
        ("a: [\n", "r.yaml, line 2: the recipe is no valid YAML"),
        ("a:\n\t- b\n", "line 2: the recipe is no valid YAML: found character '\\t' that cannot start any token."),
        ("a: 1\n---\nb: 2\n", "line 2: the recipe is no valid YAML"),
        ("a: *b\n", "found undefined alias 'b'"),
        ("a: &a [*a]\n", "line 1: an alias (*) names a value that contains the alias"),
        ("? [a]\n: b\n", "line 1: a key is a list or a mapping; expected text."),
        ("a: !!python/object/apply:os.system [ls]\n", "the tag !!python/object/apply:os.system has no meaning"),
        ("a: !path x\n", "line 1: the tag !path has no meaning in a recipe"),
        ("just text\n", "a recipe must be a mapping of keys to values, whose first key is `stage`."),
        ("", "a recipe must be a mapping"),
    ],
)
def test_files_that_are_no_recipes_are_refused(text, message):
    with pytest.raises(UsageError) as refused:
        parse_recipe(text, "r.yaml")
    assert message in str(refused.value)


def test_files_that_can_not_be_read_are_named(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("stage: prüfen\n".encode("latin-1"))
    for path, message in (("none.yaml", "There is no recipe"), ("", "is a folder"), ("latin.yaml", "as UTF-8 text")):
        with pytest.raises(UsageError, match=message):
            read_recipe(tmp_path / path)
    (tmp_path / "bom.yaml").write_text("stage: beams\n", encoding="utf-8-sig")
    assert read_recipe(tmp_path / "bom.yaml").text("stage") == "beams"


def test_merged_mappings_and_aliases_are_read():
    recipe = parse_recipe("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n", "r.yaml")
    assert convert("b", recipe.values["b"], dict, {}) == {"x": 1, "y": 3}
    assert convert("c", recipe.values["c"], dict, {}) == {"x": 1, "y": 2}


@dataclass
class Arguments:
    """Some arguments."""

    name: str = field(metadata={"help": "A name."})
    size: int = field(default=8, metadata={"help": "A size.", "min": 1})
    rate: float = 0.5
    words: list[str] = field(default_factory=lambda: ["a"])
    columns: dict[str, str] | None = None
    split: str | None = "train"
    fast: bool = False

    def __post_init__(self):
        check_fields(self)
        if self.size == 13:
            raise ValueError("size is 13; expected a luckier number.")


PARSER = RecipeParser([Arguments])


def parse(tmp_path, text, *words):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    return PARSER.parse_args_and_config(["--config", str(file), *words])[0]


def test_the_command_line_overrides_the_recipe(tmp_path):
    text = "name: n\nsize: 4\nwords: [yes, no]\nfast: true\nenv: {LEVERPLUS_TEST: 007}\n"
    found = parse(tmp_path, text, "--size", "5", "--rate=-1e-3", "--columns", '{"answer": "label"}', "--split", "null")
    assert found == Arguments("n", 5, -1e-3, ["yes", "no"], {"answer": "label"}, None, True)
    assert os.environ.pop("LEVERPLUS_TEST") == "007"
    again = parse(tmp_path, text, "--words", "x", "on", "--fast", "false", "--columns", "{answer: label}")
    assert again == Arguments("n", 4, 0.5, ["x", "on"], {"answer": "label"}, "train", False)
    assert parse(tmp_path, "name: n\n", "--fast").fast and not parse(tmp_path, "name: n\n", "--fast", "no").fast


@pytest.mark.parametrize(
    "text, words, message",
    [
        ("name: n\nsiez: 3\n", [], "r.yaml, line 2: unknown key siez: did you mean size?"),
        ("name: n\nsize: many\n", [], "r.yaml, line 2: size is many; expected a whole number of at least 1."),
        ("name: n\n\nsize: 13\n", [], "r.yaml, line 3: size is 13; expected a luckier number."),
        ("name: n\nsize: 1\nsize: 2\n", [], "line 3: the key 'size' was set in line 2 already"),
        ("size: 1\n", [], "r.yaml: name is missing. Set name in the recipe or on the command line"),
        ("name: n\nenv: 3\n", [], "line 2: env must be a mapping of environment variables to texts."),
        ("name: n\n", ["--siez", "3"], "command line: unknown key siez: did you mean size?"),
        ("name: n\n", ["--size", "0"], "command line: size is 0; expected a whole number of at least 1."),
        ("name: n\n", ["--size", "13"], "command line: size is 13; expected a luckier number."),
        ("name: n\n", ["--size", "1", "2"], "command line: --size has the values 1 2; expected one."),
        ("name: n\n", ["--size"], "command line: --size has no value; expected one."),
        ("name: n\n", ["--rate", "nan"], "command line: rate is nan; expected a number."),
        ("name: n\n", ["--fast", "perhaps"], "command line: fast is perhaps; expected true or false."),
        ("name: n\n", ["--columns", "label"], "columns is label; expected a mapping from names to texts, or null."),
        ("name: n\n", ["--columns", "{a: 1, a: 2}"], "the key 'a' was set in line 1 already"),
    ],
)
def test_mistakes_are_refused_with_their_place(text, words, message, tmp_path):
    with pytest.raises(UsageError) as refused:
        parse(tmp_path, text, *words)
    assert message in str(refused.value)


def test_words_before_any_option_are_refused():
    with pytest.raises(UsageError, match="'stray' follows no option"):
        PARSER.parse_args_and_config(["stray", "--name", "n"])


def test_values_of_python_are_checked_as_those_of_recipes():
    assert Arguments("n", words=("a", "b")).words == ("a", "b")
    for values, message in (
        ({"size": True}, "size is true"),
        ({"size": "8"}, "size is '8'"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"words": "a"}, "words is 'a'; expected a list of texts"),
        ({"fast": 1}, "fast is 1; expected true or false"),
    ):
        with pytest.raises(ValueError, match=message):
            Arguments("n", **values)


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("stage", PARSERS)
def test_help_and_docstring_are_one_text(stage):
    parser = make_parser(stage)
    short, whole = (squeezed(parser.format_help(everything)) for everything in (False, True))
    for kind in parser.dataclass_types:
        own = getattr(kind, "own", kind)
        for one in dataclasses.fields(own):
            if one.init and not one.metadata.get("hidden"):
                text = squeezed(one.metadata["help"])
                assert text in whole and text in squeezed(own.__doc__), one.name
    more = squeezed("How a pick changes the query's state: not at all,")
    assert (more in whole, more in short) == (stage == "sft", False)


@pytest.mark.parametrize("stage", PARSERS)
def test_every_field_has_help_and_a_default_that_its_own_checks_allow(stage):
    parser = make_parser(stage)
    own = [one for kind in parser.dataclass_types for one in dataclasses.fields(getattr(kind, "own", kind))]
    own = [one for one in own if one.init]  # what a dataclass sets itself is no key
    assert len({one.name for one in own}) == len(own)
    for one in own:
        limits = parser.limits[one.name]
        assert limits.get("help"), one.name
        if not is_required(one):
            default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
            convert(one.name, raw(default), parser.kinds[one.name], limits)


def test_a_key_of_another_stage_is_named(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("stage: beams\ndataset: d\nvlm: v\noutput_dir: o\nnum_rollouts: 4\n")
    with pytest.raises(UsageError, match="line 5: unknown key num_rollouts: it is a key of the stage rollouts"):
        make_parser("beams").parse_args_and_config(["--config", str(file)])
    with pytest.raises(UsageError, match="line 1: the recipe says `stage: beams`; expected sft"):
        make_parser("sft").parse_args_and_config(["--config", str(file)])


def listed(kind: type) -> dict[str, Any]:
    return {
        one.name: (one.type, one.default, one.default_factory, dict(one.metadata)) for one in dataclasses.fields(kind)
    }


def test_the_list_of_fields_is_that_of_transformers():
    """If this fails: `python -m leverplus_trl.trainer.transformers_fields`."""
    if transformers_fields() is not TransformersFields:
        pytest.skip(f"the list is that of transformers {VERSION}")
    assert listed(TransformersFields) == listed(fields_class(installed_fields()))


@pytest.mark.parametrize("stage, kind", [("sft", SelectorSFTConfig), ("grpo", OfflineGRPOConfig)])
def test_a_training_config_is_made_of_a_checked_recipe(stage, kind, tmp_path):
    values = {"stage": stage, "dataset": "d", "output_dir": str(tmp_path), "seed": 3, "report_to": "none"}
    values |= {"beams": "b"} if stage == "sft" else {"selector": "s", "rollouts": "r"}
    made = make_parser(stage).parse_dict(values | {"optim": "adamw_torch", "lr_scheduler_kwargs": {"num_cycles": 0.5}})
    assert type(made[-1]) is kind and (made[-1].seed, made[-1].save_total_limit) == (3, 1)
    assert {one.name for one in dataclasses.fields(kind)} <= set(make_parser(stage).fields)
    # The recipe that a run leaves in its folder is a recipe.
    again = make_parser(stage).parse_dict(values | plain_arguments(made[-1]))
    assert plain_arguments(again[-1]) == plain_arguments(made[-1])
    for wrong, message in (
        ({"seeed": 3}, "unknown key seeed: did you mean seed"),
        ({"seed": 1.5}, "seed is 1.5; expected a whole number"),
        ({"optim": "adma"}, "optim is 'adma'; expected one of adamw_torch"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size is 0"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; expected a number"),
        ({"eval_steps": 0}, "eval_steps is 0; expected a number above 0"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor has no effect"),
    ):
        with pytest.raises(UsageError, match=message):
            make_parser(stage).parse_dict(values | wrong)
