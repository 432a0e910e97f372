# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The fields of `transformers.TrainingArguments`; by `python -m leverplus_trl.trainer.list_transformers_fields`."""

from dataclasses import dataclass, field
from typing import Any


VERSION = "5.23.0"


@dataclass
class TransformersFields:
    """Those of that version."""

    output_dir: str | None = field(default=None)
    per_device_train_batch_size: int = field(default=8)
    num_train_epochs: float = field(default=3.0)
    max_steps: int = field(default=-1)
    learning_rate: float = field(default=5e-05)
    lr_scheduler_type: str = field(
        default="linear",
        metadata={
            "choices": (
                "linear",
                "cosine",
                "cosine_with_restarts",
                "polynomial",
                "constant",
                "constant_with_warmup",
                "inverse_sqrt",
                "reduce_lr_on_plateau",
                "cosine_with_min_lr",
                "cosine_warmup_with_min_lr",
                "warmup_stable_decay",
                "greedy",
            )
        },
    )
    lr_scheduler_kwargs: dict | None = field(default=None)
    warmup_steps: float = field(default=0)
    optim: str = field(
        default="adamw_torch_fused",
        metadata={
            "choices": (
                "adamw_torch",
                "adamw_torch_fused",
                "adamw_torch_xla",
                "adamw_torch_npu_fused",
                "adafactor",
                "adamw_anyprecision",
                "adamw_torch_4bit",
                "adamw_torch_8bit",
                "ademamix",
                "sgd",
                "adagrad",
                "adamw_bnb_8bit",
                "adamw_8bit",
                "ademamix_8bit",
                "lion_8bit",
                "lion_32bit",
                "paged_adamw_32bit",
                "paged_adamw_8bit",
                "paged_ademamix_32bit",
                "paged_ademamix_8bit",
                "paged_lion_32bit",
                "paged_lion_8bit",
                "rmsprop",
                "rmsprop_bnb",
                "rmsprop_bnb_8bit",
                "rmsprop_bnb_32bit",
                "galore_adamw",
                "galore_adamw_8bit",
                "galore_adafactor",
                "galore_adamw_layerwise",
                "galore_adamw_8bit_layerwise",
                "galore_adafactor_layerwise",
                "lomo",
                "adalomo",
                "grokadamw",
                "schedule_free_radam",
                "schedule_free_adamw",
                "schedule_free_sgd",
                "apollo_adamw",
                "apollo_adamw_layerwise",
                "stable_adamw",
            )
        },
    )
    optim_args: str | None = field(default=None)
    weight_decay: float = field(default=0.0)
    adam_beta1: float = field(default=0.9, metadata={"min": 0, "below": 1})
    adam_beta2: float = field(default=0.999, metadata={"min": 0, "below": 1})
    adam_epsilon: float = field(default=1e-08, metadata={"above": 0})
    optim_target_modules: str | list[str] | None = field(default=None)
    gradient_accumulation_steps: int = field(default=1, metadata={"min": 1})
    average_tokens_across_devices: bool = field(default=True)
    max_grad_norm: float = field(default=1.0, metadata={"min": 0})
    label_smoothing_factor: float = field(default=0.0)
    bf16: bool = field(default=False)
    fp16: bool = field(default=False)
    bf16_full_eval: bool = field(default=False)
    fp16_full_eval: bool = field(default=False)
    tf32: bool | None = field(default=None)
    activation_checkpointing: bool | None = field(default=None)
    activation_checkpointing_kwargs: dict[str, Any] | None = field(default=None)
    gradient_checkpointing: bool | None = field(default=None)
    gradient_checkpointing_kwargs: dict[str, Any] | None = field(default=None)
    torch_compile: bool = field(default=False)
    torch_compile_backend: str | None = field(default=None)
    torch_compile_mode: str | None = field(default=None)
    use_liger_kernel: bool = field(default=False)
    liger_kernel_config: dict[str, bool] | None = field(default=None)
    use_cache: bool = field(default=False)
    neftune_noise_alpha: float | None = field(default=None)
    torch_empty_cache_steps: int | None = field(default=None, metadata={"min": 1})
    auto_find_batch_size: bool = field(default=False)
    logging_strategy: str = field(default="steps", metadata={"choices": ("no", "steps", "epoch")})
    logging_steps: float = field(default=500)
    logging_first_step: bool = field(default=False)
    log_on_each_node: bool = field(default=True)
    logging_nan_inf_filter: bool = field(default=True)
    include_num_input_tokens_seen: str | bool = field(default="no")
    log_level: str = field(
        default="passive", metadata={"choices": ("detail", "debug", "info", "warning", "error", "critical", "passive")}
    )
    log_level_replica: str = field(
        default="warning", metadata={"choices": ("detail", "debug", "info", "warning", "error", "critical", "passive")}
    )
    disable_tqdm: bool | None = field(default=None)
    report_to: str | list[str] | None = field(
        default="none",
        metadata={
            "choices": (
                "all",
                "none",
                "azure_ml",
                "clearml",
                "codecarbon",
                "comet_ml",
                "dagshub",
                "dvclive",
                "flyte",
                "kubeflow",
                "mlflow",
                "neptune",
                "swanlab",
                "tensorboard",
                "trackio",
                "wandb",
            )
        },
    )
    run_name: str | None = field(default=None)
    project: str = field(default="huggingface")
    trackio_space_id: str | None = field(default=None)
    trackio_bucket_id: str | None = field(default=None)
    trackio_static_space_id: str | bool | None = field(default=None)
    eval_strategy: str = field(default="no", metadata={"choices": ("no", "steps", "epoch")})
    eval_steps: float | None = field(default=None)
    eval_delay: float = field(default=0, metadata={"min": 0})
    per_device_eval_batch_size: int = field(default=8)
    prediction_loss_only: bool = field(default=False)
    eval_on_start: bool = field(default=False)
    eval_do_concat_batches: bool = field(default=True)
    eval_use_gather_object: bool = field(default=False)
    eval_accumulation_steps: int | None = field(default=None, metadata={"min": 1})
    include_for_metrics: list[str] = field(default_factory=list)
    batch_eval_metrics: bool = field(default=False)
    save_only_model: bool = field(default=False)
    save_strategy: str = field(default="steps", metadata={"choices": ("no", "steps", "epoch", "best")})
    save_steps: float = field(default=500)
    save_on_each_node: bool = field(default=False)
    save_total_limit: int | None = field(default=None)
    enable_jit_checkpoint: bool = field(default=False)
    push_to_hub: bool = field(default=False)
    hub_token: str | None = field(default=None)
    hub_private_repo: bool | None = field(default=None)
    hub_model_id: str | None = field(default=None)
    hub_strategy: str = field(
        default="every_save", metadata={"choices": ("end", "every_save", "checkpoint", "all_checkpoints")}
    )
    hub_always_push: bool = field(default=False)
    hub_revision: str | None = field(default=None)
    load_best_model_at_end: bool = field(default=False)
    metric_for_best_model: str | None = field(default=None)
    greater_is_better: bool | None = field(default=None)
    ignore_data_skip: bool = field(default=False)
    restore_callback_states_from_checkpoint: bool = field(default=False)
    full_determinism: bool = field(default=False)
    seed: int = field(default=42, metadata={"min": 0, "max": 4294967295})
    data_seed: int | None = field(default=None, metadata={"min": 0, "max": 4294967295})
    use_cpu: bool = field(default=False)
    accelerator_config: dict | str | None = field(default=None)
    parallelism_config: Any | None = field(default=None)
    dataloader_drop_last: bool = field(default=False)
    dataloader_num_workers: int = field(default=0, metadata={"min": 0})
    dataloader_pin_memory: bool = field(default=True)
    dataloader_persistent_workers: bool = field(default=False)
    dataloader_prefetch_factor: int | None = field(default=None, metadata={"min": 1})
    dataloader_multiprocessing_context: str | None = field(
        default=None, metadata={"choices": ("fork", "spawn", "forkserver")}
    )
    dataloader_in_order: bool = field(default=True)
    remove_unused_columns: bool = field(default=True)
    label_names: list[str] | None = field(default=None)
    train_sampling_strategy: str = field(
        default="random", metadata={"choices": ("random", "sequential", "group_by_length", "batch_rebalance")}
    )
    length_column_name: str = field(default="length")
    ddp_find_unused_parameters: bool | None = field(default=None)
    ddp_bucket_cap_mb: int | None = field(default=None, metadata={"min": 1})
    ddp_broadcast_buffers: bool | None = field(default=None)
    ddp_static_graph: bool | None = field(default=None)
    ddp_backend: str | None = field(
        default=None, metadata={"choices": ("nccl", "gloo", "mpi", "xccl", "hccl", "cncl", "mccl")}
    )
    ddp_timeout: int = field(default=1800, metadata={"min": 1})
    fsdp: str | None = field(default=None)
    fsdp_config: dict[str, Any] | str | None = field(default=None)
    deepspeed: dict | str | None = field(default=None)
    debug: str | list[str] = field(default="")
    skip_memory_metrics: bool = field(default=True)
    do_train: bool = field(default=False)
    do_eval: bool = field(default=False)
    do_predict: bool = field(default=False)
    resume_from_checkpoint: str | None = field(default=None)
    local_rank: int = field(default=-1)
