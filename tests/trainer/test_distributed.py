# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Training in two processes gives what one process gives: DDP number by number, ZeRO with bf16 as far as bf16 goes.

Launchers exit with 0 when they train one process, or without DeepSpeed, so every test looks at what the processes say
of themselves.
"""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from paths import ROOT
from safetensors.torch import load_file
from trainer.distributed_worker import NUM_VALIDATION, datasets_of, new_model, run
from trainer.test_sft_script import SEARCH, search
from trainer.test_sft_script import run as run_stage
from transformers import AutoModel, AutoProcessor

from leverplus_trl.selectors import PointerSelectorModel, SelectorProcessor
from leverplus_trl.tables import write_tables


GRPO = {"rce_epochs": 1, "curriculum_epochs": 1, "scale_rewards": "batch", "behaviour_weights": True}
GRPO |= {"kl_low": 1e-4, "kl_high": 1e-3}  # beta moves at every step
SGD = {"optim": "sgd", "learning_rate": 0.05, "lr_scheduler_type": "constant", "warmup_steps": 0}
BEAMS = {"loss_type": "beams", "label_smoothing": 0.1}
KINDS = {"listwise": ("sft", {}), "beams": ("sft", BEAMS), "rewards": ("grpo", GRPO)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def launch(folder, accelerate_config, plans):
    """Runs plans in two processes; gives what both found, by name."""
    file = folder / "plans.json"
    file.write_text(json.dumps([{"folder": str(folder), **plan} for plan in plans]))
    launcher = ["accelerate.commands.launch", "--config_file", str(accelerate_config), "--main_process_port", "0"]
    command = [sys.executable, "-m", *launcher, str(ROOT / "tests" / "trainer" / "distributed_worker.py"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-5000:]
    found = {plan["name"]: [read(folder, plan["name"], rank) for rank in (0, 1)] for plan in plans}
    assert all(one["world_size"] == 2 for both in found.values() for one in both)
    return found


def read(folder, name, rank=0):
    return json.loads((folder / name / f"found-{rank}.json").read_text())


def tensors(folder, name, what="weights", rank=0):
    return load_file(folder / name / f"{what}-{rank}.safetensors")


def difference(left, right):
    assert left.keys() == right.keys() and left
    return max((value - right[name]).abs().max().item() for name, value in left.items())


def logged(found, name):
    return [entry[name] for entry in found["history"] if name in entry]


def assert_same_history(left, right):
    """What was logged agrees, whatever the order of reductions."""
    timings = ("runtime", "per_second")
    for one, other in zip(left["history"], right["history"], strict=True):
        assert one.keys() == other.keys()
        for name in one:
            if not any(part in name for part in timings):
                assert other[name] == pytest.approx(one[name], rel=1e-4, abs=1e-5), name


def parity_plans(size, accumulated=1):
    batch = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated, "max_steps": 20}
    batch |= {"per_device_eval_batch_size": 4}
    plans = []
    for name, (kind, args) in KINDS.items():
        plans.append({"name": f"{name}-sgd", "kind": kind, "args": args | batch | SGD, "evaluate": True})
        plans.append({"name": f"{name}-adamw", "kind": kind, "args": args | batch})
    return plans


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    for plan in parity_plans(8):
        assert run({"folder": str(folder), **plan})["world_size"] == 1
    return folder


def assert_parity(one, other):
    for name in KINDS:
        gradients = tensors(one, f"{name}-sgd", "gradients")
        assert max(value.abs().max().item() for value in gradients.values()) > 1e-2
        assert difference(gradients, tensors(other, f"{name}-sgd", "gradients")) < 1e-6
        assert difference(tensors(one, f"{name}-sgd"), tensors(other, f"{name}-sgd")) < 1e-5
        for optimizer in ("sgd", "adamw"):
            left, right = read(one, f"{name}-{optimizer}"), read(other, f"{name}-{optimizer}")
            assert len(logged(left, "loss")) == 20 and left["queries"] == right["queries"] == NUM_VALIDATION
            assert_same_history(left, right)
            assert left.get("beta") == pytest.approx(right.get("beta"))
    betas = logged(read(one, "rewards-sgd"), "beta")
    assert len(set(betas)) > 3  # beta moved, so that it can have moved alike
    assert 0.2 < max(logged(read(one, "rewards-sgd"), "frac_reward_zero_std")) < 1.0


def test_two_processes_train_as_one(one_process, tmp_path):
    """Neither the 43 queries nor the 13 held-out ones fill up the batches of both processes."""
    launch(tmp_path, ROOT / "accelerate_configs" / "ddp_cpu.yaml", parity_plans(4))
    assert_parity(one_process, tmp_path)
    for name in KINDS:
        assert difference(tensors(tmp_path, f"{name}-sgd"), tensors(tmp_path, f"{name}-sgd", rank=1)) == 0.0


def test_accumulated_batches_train_as_one(one_process, tmp_path):
    for plan in parity_plans(4, accumulated=2):
        run({"folder": str(tmp_path), **plan})
    assert_parity(one_process, tmp_path)


def resume_plans(size):
    """A whole run, one that is cut in the middle of a block of GRPO, and one that goes on with it; dropout is on."""
    plans = []
    for kind, more in (("sft", {}), ("grpo", {**GRPO, "disable_dropout": False})):
        plain = {
            "max_steps": 20,
            "per_device_train_batch_size": size,
            "save_strategy": "steps",
            "save_steps": 13,
            "save_total_limit": 2,
        }
        plan = {"kind": kind, "config": {"dropout": 0.1}, "args": more | plain, "evaluate": True}
        plans += [
            {**plan, "name": f"{kind}-whole"},
            {**plan, "name": f"{kind}-cut", "output": f"{kind}-again", "stop_at": 13},
            {**plan, "name": f"{kind}-again", "resume": True},
        ]
    return plans


def assert_resumed(folder, processes):
    for kind in ("sft", "grpo"):
        assert (folder / f"{kind}-again" / "checkpoint-13").is_dir()
        for rank in range(processes):
            whole, again = tensors(folder, f"{kind}-whole", rank=rank), tensors(folder, f"{kind}-again", rank=rank)
            assert difference(whole, again) == 0.0
            assert difference(whole, tensors(folder, f"{kind}-cut", rank=rank)) > 1e-4
        found = [read(folder, f"{kind}-{name}") for name in ("whole", "again")]
        assert logged(found[0], "loss") == logged(found[1], "loss") and len(logged(found[0], "loss")) == 20
        assert found[0].get("beta") == found[1].get("beta")


def test_a_resumed_run_of_two_processes_is_bit_exact(tmp_path):
    launch(tmp_path, ROOT / "accelerate_configs" / "ddp_cpu.yaml", resume_plans(4))
    assert_resumed(tmp_path, 2)


def zero_config(folder, stage, precision="bf16"):
    """The shipped config, for two processes on the CPU."""
    config = yaml.safe_load((ROOT / "accelerate_configs" / f"zero{stage}.yaml").read_text())
    assert config["mixed_precision"] == "bf16"
    config |= {"num_processes": 2, "use_cpu": True, "mixed_precision": precision}
    file = folder / f"zero{stage}.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def zero_plans(kinds):
    plans = []
    for kind in kinds:
        args = {"max_steps": 20, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "save_steps": 10}
        args |= {"save_strategy": "steps", "save_total_limit": 2, "learning_rate": 1e-3}
        args |= {"rce_epochs": 1, "curriculum_epochs": 1} if kind == "grpo" else {}
        plan = {"kind": kind, "args": args, "evaluate": True, "save": True}
        resumed = {"output": f"{kind}-whole", "resume": f"{kind}-whole/checkpoint-10", "back_to_sft": kind == "grpo"}
        plans += [{**plan, "name": f"{kind}-whole"}, {**plan, "name": f"{kind}-again", **resumed}]
    return plans


def assert_whole_selector(folder, name, dtype):
    """What was saved is what was trained, and can be used as it is."""
    trained = tensors(folder, name)
    selector = AutoModel.from_pretrained(folder / name / "saved")
    assert isinstance(selector, PointerSelectorModel) and selector.dtype == torch.float32
    assert isinstance(AutoProcessor.from_pretrained(folder / name / "saved"), SelectorProcessor)
    saved = selector.state_dict()
    assert saved.keys() == trained.keys()
    for key, value in saved.items():
        assert torch.equal(value.flatten(), trained[key].flatten()), key
        if "feature_" not in key:
            assert torch.equal(value, value.to(dtype).float()), key
    assert saved["scorer.log_temperature"].dim() == 0
    queries, candidates = selector.config.query_embed_dim, selector.config.candidate_embed_dim
    selection = selector.select(torch.randn(3, queries), torch.randn(3, 5, candidates))
    assert selection.demonstration_positions.shape == (3, 2)


def check_zero(tmp_path, stage, kinds, optimizer):
    found = launch(tmp_path, zero_config(tmp_path, stage), zero_plans(kinds))
    for name, both in found.items():
        for one in both:
            engine = {"engine": "DeepSpeedEngine", "stage": stage, "bf16": True, "optimizer": optimizer}
            assert one["deepspeed"] == engine and one["queries"] == NUM_VALIDATION
        losses = logged(both[0], "loss")
        assert len(losses) == 20
        if name.startswith("sft"):
            assert sum(losses[-5:]) < 0.97 * sum(losses[:5])
        else:  # the warm-up's are cross-entropies
            assert losses[5] < losses[0]
        assert difference(tensors(tmp_path, name), tensors(tmp_path, name, rank=1)) == 0.0
        assert_whole_selector(tmp_path, name, torch.bfloat16)
    for kind in kinds:
        whole, again = (found[f"{kind}-{name}"][0] for name in ("whole", "again"))
        assert logged(again, "loss") == pytest.approx(logged(whole, "loss"), rel=1e-2, abs=1e-3)
        assert (tmp_path / f"{kind}-whole" / "checkpoint-10").is_dir()
    return found


# DeepSpeed compiles its communication for CPUs when it first runs there, which takes minutes and a C++ compiler.
@pytest.mark.slow
@pytest.mark.parametrize(("stage", "optimizer"), [(2, "DeepSpeedZeroOptimizer"), (3, "DeepSpeedZeroOptimizer_Stage3")])
def test_zero_trains_both_kinds_and_goes_back_to_sft(tmp_path, stage, optimizer):
    check_zero(tmp_path, stage, ["sft", "grpo"], optimizer)
    sft = new_model(datasets_of("grpo")[0]).state_dict()
    kept, trained = tensors(tmp_path, "grpo-again"), tensors(tmp_path, "grpo-whole")
    for name, value in kept.items():
        expected = sft[name] if "feature_" in name else sft[name].bfloat16().float()
        assert torch.equal(value.flatten(), expected.flatten()), name
    assert difference(kept, trained) > 1e-3


@pytest.mark.slow
def test_zero2_in_single_precision_trains_as_one_process(one_process, tmp_path):
    plans = [plan for plan in parity_plans(4) if plan["name"].endswith("adamw")]
    for name, both in launch(tmp_path, zero_config(tmp_path, 2, "no"), plans).items():
        assert both[0]["deepspeed"]["stage"] == 2 and not both[0]["deepspeed"]["bf16"]
        assert logged(both[0], "loss") == pytest.approx(logged(read(one_process, name), "loss"), rel=1e-4)


def test_zero3_that_would_save_no_weights_is_refused(tmp_path, monkeypatch):
    values = {"USE_DEEPSPEED": "true", "DEEPSPEED_ZERO_STAGE": "3", "DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "false"}
    for name, value in values.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    environment = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    plan = {"folder": str(tmp_path), "name": "sft", "kind": "sft", "args": {"max_steps": 1}}
    worker = "import json, sys; from trainer.distributed_worker import run; run(json.loads(sys.argv[1]))"
    command = [sys.executable, "-c", worker, json.dumps(plan)]
    everything = {**os.environ, **environment, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, capture_output=True, text=True, env=everything, timeout=300)
    assert "ValueError: ZeRO 3 would save a selector without weights: set `zero3_save_16bit_model" in done.stderr


@pytest.fixture(scope="module")
def beams(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beams")
    searched = {"train": search("train[:20]", "train"), "validation": search("validation[:9]", "validation")}
    tables = {
        kind: {split: found[place] for split, found in searched.items()}
        for place, kind in enumerate(("beams", "ledger"))
    }
    write_tables(folder, tables, "B", "t", {"stage": "beams", "recipe": SEARCH, "facts": {}, "versions": {}})
    return folder


def test_the_stage_leaves_the_same_files_from_two_processes(beams, tmp_path):
    outputs = {}
    for name, size in (("one", 8), ("two", 4)):
        (tmp_path / name).mkdir()
        values = {"num_train_epochs": 2, "per_device_train_batch_size": size, "dropout": 0.0, "dry_run": name == "two"}
        outputs[name] = run_stage(tmp_path / name, beams, **values)
    recipe = tmp_path / "two" / "recipe.yaml"
    values = yaml.safe_load(recipe.read_text()) | {"dry_run": False}
    recipe.write_text(yaml.safe_dump({"stage": "sft", **values}, sort_keys=False))
    command = [sys.executable, "-m", "leverplus_trl.cli", "sft", "--config", str(recipe)]
    command += ["--accelerate_config", "ddp_cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]
    files = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in outputs.values()]
    assert [name for name in files[1] if "rng_state" not in name] == [n for n in files[0] if "rng_state" not in n]
    one, two = (json.loads((folder / "trainer_state.json").read_text()) for folder in outputs.values())
    assert two["global_step"] == one["global_step"] == 6  # 20 queries, 8 a step, twice
    assert [e["eval_regret"] for e in two["log_history"] if "eval_regret" in e] == pytest.approx(
        [e["eval_regret"] for e in one["log_history"] if "eval_regret" in e], abs=1e-5
    )
    weights = [load_file(folder / "model.safetensors") for folder in outputs.values()]
    assert difference(*weights) < 1e-4
    facts = json.loads((outputs["two"] / "provenance.json").read_text())["facts"]
    assert facts["queries_per_step"] == 8  # 4 in each of two processes
    log = (outputs["two"] / "run.log").read_text()
    assert log.count("Step 1 of 6: {'loss'") == log.count("The selector is in") == 1
    assert (outputs["two"] / "README.md").read_text() == (outputs["one"] / "README.md").read_text()
