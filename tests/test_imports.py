# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What importing the package imports, and what it registers, each in a fresh process."""

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from paths import ROOT

import leverplus_trl
from leverplus_trl.answering.answerer import PROTOCOLS
from leverplus_trl.data_sources import DATA_SOURCES, DATASETS
from leverplus_trl.metrics import METRICS
from leverplus_trl.rollouts import REWARDS
from leverplus_trl.selectors import PointerSelectorConfig, PointerSelectorModel, SelectorProcessor
from leverplus_trl.tasks import TASKS
from leverplus_trl.tasks.arguments import PROTOCOL_NAMES, TASK_NAMES, TaskArguments
from leverplus_trl.trainer.training_fields import REWARD_NAMES


HEAVY = ("torch", "transformers", "datasets", "accelerate", "trl", "numpy", "pyarrow", "huggingface_hub")
ROOMS = ("answering", "beams", "data_sources", "metrics", "retrieval", "rollouts", "selectors")
ROOMS += ("tasks", "trainer", "vlms")
#: Modules with the arguments of the stages.
ARGUMENTS = sorted(
    str(file.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for pattern in ("*arguments.py", "beam_search.py", "parsers.py", "training_fields.py")
    for file in (ROOT / "leverplus_trl").rglob(pattern)
)


def run_fresh(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_and_every_argument_class_imports_nothing_heavy():
    assert len(ARGUMENTS) > 9
    code = f"""\
import importlib, sys
for name in ("leverplus_trl", {", ".join(repr(f"leverplus_trl.{room}") for room in ROOMS)}, *sys.argv[1:]):
    importlib.import_module(name)
print(*(name for name in {HEAVY} if name in sys.modules))"""
    assert run_fresh(code, *ARGUMENTS) == []


@pytest.mark.parametrize("name", ["", *(f".{room}" for room in ROOMS)])
def test_every_public_name_is_there(name):
    package = importlib.import_module(f"leverplus_trl{name}")
    assert package.__all__ and set(package.__all__) <= set(dir(package))
    for public in package.__all__:
        assert getattr(package, public) is not None
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        package.no_such_name  # noqa: B018


def test_the_public_names_hold_both_trainers_all_selectors_and_the_embeddings():
    for name in (
        "OfflineGRPOConfig",
        "OfflineGRPOTrainer",
        "GPT2SelectorConfig",
        "GPT2SelectorModel",
        "embed_examples",
    ):
        assert name in leverplus_trl.__all__


def test_a_name_that_a_module_has_too_means_the_function():
    code = """\
import leverplus_trl.beams.beam_search, leverplus_trl.vlms.preflight
from leverplus_trl.beams import beam_search
from leverplus_trl.vlms import preflight
print(callable(beam_search), callable(preflight), callable(leverplus_trl.beams.beam_search))"""
    assert run_fresh(code) == ["True", "True", "True"]


def test_modules_of_vlms_import_each_other_in_no_circle():
    root = ROOT / "leverplus_trl" / "vlms"
    modules = {file.relative_to(root).with_suffix("").parts: file for file in root.rglob("*.py")}
    imports = {}
    for name, file in modules.items():
        nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        bases = [(name[: -node.level], (node.module or "").split("."), node.names) for node in nodes if node.level]
        found = {(*base, *filter(None, module)) for base, module, _ in bases}
        found |= {(*base, *filter(None, module), one.name) for base, module, names in bases for one in names}
        imports[name] = found & modules.keys()
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError, imports for type checks included
    assert len(order) == len(modules) > 20 and imports["vlm",] >= {("family",), ("runners",)}
    assert ("open_flamingo", "mpt") in imports["open_flamingo", "modeling"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selector")
    PointerSelectorModel(PointerSelectorConfig(image_embed_dim=4, text_embed_dim=4)).save_pretrained(folder)
    SelectorProcessor(["image", "text"], ["image", "text"]).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "first",
    [
        "import leverplus_trl",
        "import transformers, leverplus_trl",
        "from transformers import AutoConfig, AutoModel, AutoProcessor\nimport leverplus_trl",
        "from leverplus_trl import load_vlm",
        "import leverplus_trl.retrieval.embeddings",
        "import leverplus_trl.selectors.configuration_gpt2_selector",
        "import leverplus_trl.selectors.modeling_pointer_selector",
        "from leverplus_trl.selectors import read_selector_config; read_selector_config(sys.argv[1])",
    ],
)
def test_the_auto_classes_know_a_selector_whatever_was_imported_first(first, saved):
    code = f"""\
import sys
{first}
from transformers import AutoConfig, AutoModel, AutoProcessor
found = [kind.from_pretrained(sys.argv[1]) for kind in (AutoConfig, AutoModel, AutoProcessor)]
from leverplus_trl import PointerSelectorModel, SelectorProcessor
assert type(found[1]) is PointerSelectorModel and type(found[2]) is SelectorProcessor
print(type(found[0]).__name__, type(AutoModel.from_config(found[0])).__name__)"""
    assert run_fresh(code, saved) == ["PointerSelectorConfig", "PointerSelectorModel"]


def test_lists_of_names_are_those_of_the_things():
    assert TaskArguments.__dataclass_fields__["metric"].metadata["choices"] == tuple(METRICS)
    assert tuple(DATA_SOURCES) == DATASETS
    assert tuple(TASKS) == TASK_NAMES
    assert tuple(PROTOCOLS) == PROTOCOL_NAMES
    assert tuple(REWARDS) == REWARD_NAMES
