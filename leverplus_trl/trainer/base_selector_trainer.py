# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What the trainers of selectors share: what is saved and pushed to the hub, and that training stops where numbers
are NaN or infinite."""

import math
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo
from transformers import PreTrainedModel, Trainer

from ..hub import push_run
from ..output_files import naming, write_atomically
from ..selectors.processing_selector import SelectorProcessor
from ..weights import check_weights, refuse_pickles
from .saving import written_whole


class BaseSelectorTrainer(Trainer):
    """
    A `transformers.Trainer` whose batches are gathered from tensors, and that saves a selector with its processor.

    Args:
        processing_class ([`SelectorProcessor`], *optional*, defaults to that of the training data):
            Saved beside the model.
        **kwargs:
            What `transformers.Trainer` takes.
    """

    def __init__(self, model: PreTrainedModel, *args, processing_class: SelectorProcessor | None = None, **kwargs):
        super().__init__(model, *args, data_collator=_as_is, **kwargs)
        self._scalars = self._ready_for_deepspeed(model) if self.is_deepspeed_enabled else set()
        # Not given to the base class, which takes every processor for one that has a tokenizer.
        self.selector_processor = processing_class or self.train_dataset.processor

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._stop_unless_finite("loss", loss.item())
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: torch.Tensor | float | None = None) -> float | None:
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None and not self.args.fp16:  # whose loss scaler skips steps that overflow
            self._stop_unless_finite("norm of the gradients", norm)
        return norm

    def _stop_unless_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            step, precision = self.state.global_step + 1, ", train without fp16" * self.args.fp16
            raise ValueError(
                f"The {what} is {value} at step {step} of {self.state.max_steps}: training has diverged. Lower "
                f"learning_rate (now {self.args.learning_rate:g}){precision}, or look at the embeddings and scores of "
                "the training data. Checkpoints of earlier steps stay as they are."
            )

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        metrics = super().evaluate(*args, **kwargs)
        broken = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if broken:
            name, value = next(iter(broken.items()))
            raise ValueError(
                f"{name} is {value} at step {self.state.global_step}, so that no checkpoint can be chosen by it: the "
                "selector has diverged. Lower learning_rate (now "
                f"{self.args.learning_rate:g}), or look at the embeddings and scores of the held-out queries."
            )
        best = f"eval_{str(self.args.metric_for_best_model).removeprefix('eval_')}"
        if self.is_in_train and self.args.load_best_model_at_end and best not in metrics:
            raise ValueError(
                f"metric_for_best_model is {best!r}, which could not be measured at step {self.state.global_step}; "
                f"measured were {', '.join(sorted(metrics))}. Name one of these."
            )
        return metrics

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        refuse_pickles(resume_from_checkpoint, "checkpoint")
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    @abstractmethod
    def card_text(self) -> str:
        """The card of the selector, in Markdown."""

    def _ready_for_deepspeed(self, model: PreTrainedModel) -> set[str]:
        """Refuses what would fail at the end or leave no weights, and prepares for what DeepSpeed does to a model: it
        can't send parameters without dimension, which get one (their names are given back), and where it casts weights
        it leaves features and their statistics in single precision."""
        plugin = self.accelerator.state.deepspeed_plugin
        if any(hasattr(value, "ds_id") for value in model.parameters()):
            raise ValueError(
                "The weights of this selector were split by ZeRO 3 when it was loaded, but they are read before "
                "training begins. Load it before `TrainingArguments` are made, or call "
                "`transformers.integrations.deepspeed.unset_hf_deepspeed_config()` first."
            )
        gathers = plugin.hf_ds_config.is_true("zero_optimization.stage3_gather_16bit_weights_on_model_save")
        if plugin.zero_stage == 3 and not gathers:
            raise ValueError(
                "ZeRO 3 would save a selector without weights: set `zero3_save_16bit_model: true` in the accelerate "
                "config, or `stage3_gather_16bit_weights_on_model_save: true` in that of DeepSpeed."
            )
        scalars = {name: value for name, value in model.named_parameters() if value.dim() == 0}
        for value in scalars.values():
            value.data = value.data.reshape(1)
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_pre_hook(_in_its_precision)
        return set(scalars)

    def _prepare_input(self, data: Any) -> Any:
        # Under DeepSpeed transformers casts all of a batch to the precision of the weights: scores, rewards and the
        # reference policy would be rounded to three digits.
        return data.to(self.args.device) if isinstance(data, torch.Tensor) else super()._prepare_input(data)

    def load_weights(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Puts weights into the model, which may be split over processes."""
        if self.is_deepspeed_enabled and self.accelerator.state.deepspeed_plugin.zero_stage == 3:
            from deepspeed import zero

            with zero.GatheredParameters(list(self.model.parameters()), modifier_rank=0):
                self.model.load_state_dict(state_dict)
        else:
            self.model.load_state_dict(state_dict)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        with naming(output_dir, RuntimeError):  # what torch raises
            super()._save_optimizer_and_scheduler(output_dir)

    def _save_rng_state(self, output_dir: str) -> None:
        with naming(output_dir, RuntimeError):
            super()._save_rng_state(output_dir)
        # The trainer's state, which comes next, says that a checkpoint is whole: with the files of every process.
        self.accelerator.wait_for_everyone()

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Matrices alone decay: the temperature is a scale, which decay would drag to 1."""
        return [name for name in super().get_decay_parameter_names(model) if model.get_parameter(name).dim() > 1]

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:  # takes part in gathering what is sharded
            super()._save(output_dir, state_dict)
            return
        check_weights(self.model.state_dict() if state_dict is None else state_dict, "the trained selector")
        if state_dict is not None:  # gathered; a selector that was trained in half precision is used in single
            state_dict = {k: v.float() if v.is_floating_point() else v for k, v in state_dict.items()}
            state_dict |= {name: state_dict[name].reshape(()) for name in self._scalars}
        with written_whole(Path(output_dir or self.args.output_dir)) as folder:
            super()._save(str(folder), state_dict)
            self.model.config.dtype = torch.float32
            self.model.config.save_pretrained(folder)
            self.selector_processor.save_pretrained(folder)
            # A pickle of arguments that the recipe and the trainer's state hold in plain text.
            (folder / "training_args.bin").unlink(missing_ok=True)

    def push_to_hub(
        self,
        commit_message: str = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs,
    ) -> CommitInfo | None:
        """
        Pushes the selector with its processor, its card and what made it, in one commit; no checkpoints.

        Args:
            commit_message (`str`, *optional*):
                Message of the commit.
            blocking (`bool`, *optional*):
                Without effect: a selector is small.
            token, revision, private (*optional*, default to the `hub_` arguments):
                Token with write permission, branch, and whether a new repository is private.
        """
        self.save_model(_internal_call=True)
        self.create_model_card()
        if not self.is_world_process_zero():
            return None
        given = {"token": token, "revision": revision, "private": private, "message": commit_message}
        return push_run(self.args, **{name: value for name, value in given.items() if value is not None})

    def create_model_card(self, *args, **kwargs) -> None:
        """Writes the card of the selector, README.md, to the output folder."""
        if self.is_world_process_zero():
            write_atomically(Path(self.args.output_dir) / "README.md", self.card_text().encode())


def _in_its_precision(module: torch.nn.Linear, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].to(module.weight.dtype),)


def _as_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch
