# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What the selectors' trainers share: saving, the hub, the order of the queries, and checks for NaN and infinity."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo
from safetensors import SafetensorError
from torch.utils.data import default_convert
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import EvalPrediction

from ..hub import push_run
from ..output_files import UNFINISHED, delete, naming, write_atomically
from ..selectors.processing_selector import SelectorProcessor
from ..weights import check_weights, refuse_pickles
from .base_selector_dataset import BaseSelectorDataset, RepeatedBlocks
from .pixel_dataset import Batch, PixelDataset, embed_inputs
from .sft_config import BaseSelectorTrainingConfig


logger = logging.getLogger(__name__)

#: The last file that is written to a selector's folder; it marks the selector as complete.
COMPLETE = "processor_config.json"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A context with an empty folder to save a selector into; on exit, the files move to `folder`. If saving fails,
    `folder` stays as it was. While files are moved, it has no [`COMPLETE`]."""
    temporary = folder / f"{UNFINISHED}selector"
    try:
        with naming(folder, SafetensorError, RuntimeError):  # torch raises RuntimeError
            delete(temporary)  # left by a process that was killed
            temporary.mkdir(parents=True)
            yield temporary
            files = sorted(temporary.iterdir(), key=lambda file: (file.name == COMPLETE, file.name))
            (folder / COMPLETE).unlink(missing_ok=True)
            for file in files:
                os.replace(file, folder / file.name)
    finally:
        delete(temporary)


class BaseSelectorTrainer(Trainer):
    """
    A `transformers.Trainer`, with its arguments, that reads batches of tensors and saves a selector with its processor
    (`processing_class`, by default that of the training data).

    A subclass defines the annotated class attributes; `query_measures(model, inputs)`, the inputs of the metrics;
    `card_text()`, the card in Markdown; and `collapse_advice()`, what to do about a collapsed selector.
    """

    _block_sampler: type[RepeatedBlocks]  # orders the training queries
    selection_metrics: Callable[[EvalPrediction], dict[str, float]]  # the metrics of an evaluation
    num_iterations = 1  # optimizer steps in a row on each batch

    def __init__(
        self,
        model: PreTrainedModel,
        args: BaseSelectorTrainingConfig,
        train_dataset: BaseSelectorDataset | PixelDataset,
        eval_dataset: BaseSelectorDataset | PixelDataset | None = None,
        processing_class: SelectorProcessor | None = None,
        **kwargs,
    ):
        # Batches come whole from the datasets.
        own = {"data_collator": default_convert, "compute_metrics": self.selection_metrics}
        super().__init__(
            model=model, args=args, train_dataset=train_dataset, eval_dataset=eval_dataset, **own, **kwargs
        )
        self._scalars = self._prepare_deepspeed(model) if self.is_deepspeed_enabled else set()
        # `Trainer` expects a tokenizer in every processor, so it does not get this one.
        self.selector_processor = processing_class or train_dataset.processor

    @property
    def best_metric_name(self) -> str:
        return f"eval_{str(self.args.metric_for_best_model).removeprefix('eval_')}"

    def _get_train_sampler(self, train_dataset: BaseSelectorDataset | None = None) -> RepeatedBlocks:
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        block_size = self.get_total_train_batch_size(self.args)
        num_queries = len(train_dataset or self.train_dataset)
        return self._block_sampler(num_queries, block_size, self.num_iterations, seed, self._epoch)

    def _num_steps(self, epochs: float) -> int:
        """Optimizer steps of some epochs, in whole blocks."""
        blocks = -(-len(self.train_dataset) // self.get_total_train_batch_size(self.args))
        return self.num_iterations * round(epochs * blocks)

    def _epoch(self) -> int:
        return self.state.global_step // self._num_steps(1)

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._stop_unless_finite("loss", loss.item())
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: torch.Tensor | float | None = None) -> float | None:
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None and not self.args.fp16:  # the loss scaler of fp16 skips steps that overflow
            self._stop_unless_finite("norm of the gradients", norm)
        return norm

    def _stop_unless_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            step, precision = self.state.global_step + 1, ", train without fp16" * self.args.fp16
            raise ValueError(
                f"The {what} is {value} at step {step} of {self.state.max_steps}: training has diverged. Lower "
                f"learning_rate (now {self.args.learning_rate:g}){precision}, or check the embeddings and scores of "
                "the training data. Checkpoints of earlier steps are kept."
            )

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        metrics = super().evaluate(*args, **kwargs)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise ValueError(
                    f"{name} is {value} at step {self.state.global_step}, so that no checkpoint can be chosen by it: "
                    f"the selector has diverged. Lower learning_rate (now {self.args.learning_rate:g}), or check the "
                    "embeddings and scores of the held-out queries."
                )
        if self.is_in_train and self.args.load_best_model_at_end and self.best_metric_name not in metrics:
            raise ValueError(
                f"metric_for_best_model is {self.best_metric_name!r}, which could not be measured at step "
                f"{self.state.global_step}; expected one of {', '.join(sorted(metrics))}."
            )
        prefix = kwargs.get("metric_key_prefix", "eval")
        if metrics.get(f"{prefix}_collapsed"):
            logger.warning(
                "The selector has collapsed: %.0f%% of its selections are one and the same, and %.0f%% change when "
                "the query is swapped for another. %s",
                100 * metrics[f"{prefix}_most_common_share"],
                100 * metrics.get(f"{prefix}_swap_change_share", math.nan),
                self.collapse_advice(),
            )
        return metrics

    @torch.no_grad()
    def prediction_step(
        self, model, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor | None, Batch | None, torch.Tensor | None]:
        """The measures of each query, SFT's loss included; that of GRPO does not measure progress."""
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            measures = self.query_measures(model, embed_inputs(model, inputs))
        if prediction_loss_only and "loss" in measures:
            return measures["loss"].mean(), None, None
        # The loop computes metrics only if there are labels; these are not read.
        return None, measures, inputs["candidate_rows"]

    def last_logged(self, name: str) -> dict[str, float]:
        """The last entry of the log that has this value; empty if there is none."""
        return next((entry for entry in reversed(self.state.log_history) if name in entry), {})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        refuse_pickles(resume_from_checkpoint, "checkpoint")
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _prepare_deepspeed(self, model: PreTrainedModel) -> set[str]:
        """Refuses settings under which no weights would be saved. DeepSpeed can't send scalar parameters: they get one
        dimension, and their names are returned. It casts weights but not features, which the linear layers cast."""
        plugin = self.accelerator.state.deepspeed_plugin
        if any(hasattr(value, "ds_id") for value in model.parameters()):
            raise ValueError(
                "ZeRO 3 split the weights of this selector when it was loaded, but the trainer reads them before "
                "training begins. Load the selector before `TrainingArguments` are made, or call "
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
        # Under DeepSpeed, transformers casts all tensors of a batch to the precision of the weights, which would round
        # scores, rewards and the reference policy to three digits.
        return data.to(self.args.device) if isinstance(data, torch.Tensor) else super()._prepare_input(data)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        with naming(output_dir, RuntimeError):  # what torch raises
            super()._save_optimizer_and_scheduler(output_dir)

    def _save_rng_state(self, output_dir: str) -> None:
        with naming(output_dir, RuntimeError):
            super()._save_rng_state(output_dir)
        # The trainer's state, written next, marks the checkpoint as complete: wait for the files of all processes.
        self.accelerator.wait_for_everyone()

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Only matrices decay: weight decay would pull the temperature, a scale, towards 1."""
        return [name for name in super().get_decay_parameter_names(model) if model.get_parameter(name).dim() > 1]

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:  # this process helps to gather sharded weights
            super()._save(output_dir, state_dict)
            return
        check_weights(self.model.state_dict() if state_dict is None else state_dict, "the trained selector")
        if state_dict is not None:  # gathered, possibly in half precision; selectors are saved in single precision
            state_dict = {k: v.float() if v.is_floating_point() else v for k, v in state_dict.items()}
            state_dict |= {name: state_dict[name].reshape(()) for name in self._scalars}
        with written_whole(Path(output_dir or self.args.output_dir)) as folder:
            super()._save(str(folder), state_dict)
            self.model.config.dtype = torch.float32
            self.model.config.save_pretrained(folder)
            self.selector_processor.save_pretrained(folder)
            # A pickle; the recipe and the trainer's state hold the arguments as text.
            (folder / "training_args.bin").unlink(missing_ok=True)

    def push_to_hub(
        self, commit_message: str = "End of training", blocking: bool = True, token: str | None = None, **kwargs
    ) -> CommitInfo | None:
        """Pushes the selector, its processor, card and provenance in one commit, without checkpoints. `token`, and of
        `kwargs` `revision` and `private` (for a new repository), default to the `hub_` arguments; `blocking` has no
        effect."""
        self.save_model(_internal_call=True)
        self.create_model_card()
        if not self.is_world_process_zero():
            return None
        options = {"token": token, **{name: kwargs.get(name) for name in ("revision", "private")}}
        options = {name: value for name, value in options.items() if value is not None}
        return push_run(self.args, message=commit_message, **options)

    def create_model_card(self, *args, **kwargs) -> None:
        """Writes the card of the selector, README.md, to the output folder."""
        if self.is_world_process_zero():
            write_atomically(Path(self.args.output_dir) / "README.md", self.card_text().encode())


def _in_its_precision(module: torch.nn.Linear, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].to(module.weight.dtype),)
