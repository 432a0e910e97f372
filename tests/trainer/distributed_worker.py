# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Trains selectors on the simulated world as a JSON file says, in this process or in as many as a launcher starts:

    accelerate launch --config_file ... tests/trainer/distributed_worker.py PLAN.json

Every process writes down what it saw, so that a test can compare them with each other and with a single process.
"""

import json
import os
import sys
from pathlib import Path


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import save_file
from trainer.simulated_rollouts import rollouts_of
from trainer.simulated_world import SimulatedWorld
from transformers import PreTrainedModel, TrainerCallback

from leverplus_trl.selectors import PRESETS, PointerSelectorConfig, PointerSelectorModel, SelectorProcessor
from leverplus_trl.trainer import (
    OfflineGRPOConfig,
    OfflineGRPOTrainer,
    RolloutDataset,
    SelectorDataset,
    SelectorSFTConfig,
    SelectorSFTTrainer,
    rollout_groups,
    scored_prefixes,
)


NUM_TRAIN, NUM_VALIDATION = 43, 13  # multiples of nothing


class Watch(TrainerCallback):
    """Keeps the gradients of the first step, and may stop in the middle."""

    def __init__(self, folder: Path, stop_at: int | None):
        self.folder, self.stop_at = folder, stop_at

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
            if found:  # ZeRO keeps them elsewhere
                names = {name.removeprefix("module."): value.clone() for name, value in found.items()}
                save_file(names, self.folder / f"gradients-{args.process_index}.safetensors")

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.stop_at:
            control.should_training_stop = True


def new_model(world: SimulatedWorld, **values) -> PointerSelectorModel:
    torch.manual_seed(0)
    config = {"image_embed_dim": 16, "text_embed_dim": 8, "hidden_size": 32, "num_heads": 2, **PRESETS["v2"][1]}
    model = PointerSelectorModel(PointerSelectorConfig(**(config | {"dropout": 0.0} | values)))
    features = SelectorProcessor().fuse(world.embeddings["pool"], ["image", "text"])
    model.fit_inputs(features, features)
    return model


def datasets_of(kind: str) -> tuple[SimulatedWorld, dict]:
    """Data of either trainer; a part of the groups has nothing to teach."""
    world = SimulatedWorld(pool=60, num_candidates=8)
    found = {}
    for split, count in (("train", NUM_TRAIN), ("validation", NUM_VALIDATION)):
        beams, ledger = world.queries(split, count)
        ids = beams["query_id"], beams["candidate_ids"], world.embeddings[split], world.embeddings["pool"]
        if kind == "sft":
            scored = scored_prefixes(beams, ledger, world.insertion, "prob")
            found[split] = SelectorDataset(*ids, SelectorProcessor(), scored)
        else:
            table = rollouts_of(world, split, beams, size=8)
            rewards = [np.array(own) if row % 4 else np.full(8, 0.5) for row, own in enumerate(table["accuracies"])]
            found[split] = RolloutDataset(*ids, SelectorProcessor(), rollout_groups(table, rewards, world.insertion))
    return world, found


def plain_weights(trainer) -> dict[str, torch.Tensor]:
    """The weights as they are in the model, gathered from all processes."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not any(hasattr(value, "ds_id") for value in model.parameters()):
        return {name: value.detach().float().clone().contiguous() for name, value in model.state_dict().items()}
    from deepspeed import zero

    with zero.GatheredParameters(list(model.parameters())):
        return {name: value.detach().float().clone().contiguous() for name, value in model.state_dict().items()}


def run(plan: dict) -> dict:
    """
    One training run.

    Args:
        plan (`dict`):
            `name`, `kind` (`"sft"` or `"grpo"`), `folder`, `args` (of the trainer), and as needed `config` (of the
            model), `evaluate`, `stop_at`, `resume`, `save`, `back_to_sft`.
    """
    AcceleratorState._reset_state()  # of an earlier run in this process
    folder = Path(plan["folder"]) / plan["name"]
    folder.mkdir(parents=True, exist_ok=True)
    args = {"disable_tqdm": True, "report_to": "none", "logging_steps": 1, "use_cpu": True, "eval_strategy": "no"}
    args |= {"load_best_model_at_end": False, "save_strategy": "no", "seed": 3, **plan["args"]}
    config_class, trainer_class = {
        "sft": (SelectorSFTConfig, SelectorSFTTrainer),
        "grpo": (OfflineGRPOConfig, OfflineGRPOTrainer),
    }[plan["kind"]]
    training_args = config_class(output_dir=str(Path(plan["folder"]) / plan.get("output", plan["name"])), **args)
    world, datasets = datasets_of(plan["kind"])
    model: PreTrainedModel = new_model(world, **plan.get("config", {}))
    watch = Watch(folder, plan.get("stop_at"))
    trainer = trainer_class(model, training_args, datasets["train"], datasets["validation"], callbacks=[watch])
    resume = plan.get("resume", False)
    trainer.train(resume_from_checkpoint=str(Path(plan["folder"]) / resume) if isinstance(resume, str) else resume)
    found = {"world_size": training_args.world_size, "deepspeed": None, "queries": num_rows(trainer)}
    if trainer.is_deepspeed_enabled:
        engine = trainer.model_wrapped
        found["deepspeed"] = {
            "engine": type(engine).__name__,
            "stage": engine.zero_optimization_stage(),
            "bf16": engine.bfloat16_enabled(),
            "optimizer": type(engine.optimizer).__name__,
        }
    if plan.get("evaluate"):
        trainer.evaluate()
    if plan.get("back_to_sft"):
        trainer._go_back_to_sft()
    if plan.get("save"):
        trainer.save_model(str(folder / "saved"))
    rank = training_args.process_index
    save_file(plain_weights(trainer), folder / f"weights-{rank}.safetensors")
    found["history"] = trainer.state.log_history
    if plan["kind"] == "grpo":
        found["beta"] = trainer.adaptive_beta.beta
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    return found


def num_rows(trainer) -> int:
    """How many queries the measures of an evaluation are made of."""
    counted = []
    original = trainer.compute_metrics
    trainer.compute_metrics = lambda prediction: counted.append(len(prediction.label_ids)) or original(prediction)
    trainer.evaluate(metric_key_prefix="eval_rows")
    trainer.compute_metrics = original
    return counted[0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in json.loads(Path(sys.argv[1]).read_text()):
        run(one)
    assert os.environ["WORLD_SIZE"] == "2"
