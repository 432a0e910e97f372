# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys every stage has, and those of the stages that a job array may share."""

from dataclasses import dataclass, field

from .fields import check_fields
from .shard import Shard


@dataclass(kw_only=True)
class OutputArguments:
    """Messages: how much is said on the terminal; the log of the output folder has it all."""

    quiet: bool = field(default=False, metadata={"help": "Say only warnings and errors."})
    verbose: bool = field(default=False, metadata={"help": "Say the warnings of other libraries, too."})
    traceback: bool = field(default=False, metadata={"help": "Print the traceback of an error."})


@dataclass
class StageArguments(OutputArguments):
    """
    Run: what every recipe may say, whatever its stage.

    Args:
        stage (`str`, *optional*):
            Name of the stage the recipe is for; the first key of every recipe.
        accelerate_config (`str`, *optional*):
            Accelerate config to launch the stage with: a path, or the name of a file in `accelerate_configs/`.
        num_threads (`int`, *optional*):
            CPU threads of one process; PyTorch's default if not given. Another number changes the last bits of an
            output. Small models are fastest with 1.
        dry_run (`bool`, *optional*, defaults to `False`):
            Print what would be done and what it would cost, then stop.
        overwrite (`bool`, *optional*, defaults to `False`):
            Delete the output that an earlier run left in `output_dir`, of whatever recipe, and start anew. Files that
            no stage wrote are kept.
    """

    stage: str | None = field(default=None, metadata={"help": "Stage the recipe is for; its first key."})
    accelerate_config: str | None = field(
        default=None,
        metadata={"help": "Accelerate config to launch with: a path, or a name in accelerate_configs/."},
    )
    num_threads: int | None = field(
        default=None, metadata={"help": "CPU threads of one process.", "min": 1, "max": 1024}
    )
    dry_run: bool = field(default=False, metadata={"help": "Print what would be done and what it costs, then stop."})
    overwrite: bool = field(default=False, metadata={"help": "Delete earlier output in output_dir, and start anew."})

    def __post_init__(self):
        check_fields(self)

    def check(self, stage: str) -> None:
        """Raises `ValueError` if the recipe was written for another stage."""
        if self.stage is not None and self.stage != stage:
            raise ValueError(
                f"This recipe says `stage: {self.stage}` and was given to the stage {stage!r}. "
                f"Run it with `leverplus {self.stage}` or `python -m leverplus_trl RECIPE.yaml`."
            )


@dataclass
class ShardedStageArguments(StageArguments):
    """
    Parallel runs: how a stage that calls the VLM is cut into the tasks of a job array.

    Args:
        stage, accelerate_config, num_threads, dry_run, overwrite:
            Those of [`StageArguments`].
        num_shards (`int`, *optional*, defaults to 1):
            Number of launches among which the job is cut, e.g. the tasks of a job array. When all are done, `leverplus
            merge` writes the tables; they are those of a single launch, to the byte.
        shard_index (`int`, *optional*):
            Which of them this is, counted from 0.
    """

    num_shards: int = field(
        default=1, metadata={"help": "Launches among which the job is cut (a job array).", "min": 1}
    )
    shard_index: int | None = field(
        default=None, metadata={"help": "Which of them this is, counted from 0.", "min": 0}
    )

    def __post_init__(self):
        super().__post_init__()
        named = f"0 to {self.num_shards - 1}"
        if self.shard_index is None and self.num_shards > 1:
            raise ValueError(f"num_shards is {self.num_shards}: set shard_index, {named}, to say which one this is.")
        if self.shard_index is not None and not 0 <= self.shard_index < self.num_shards:
            raise ValueError(f"shard_index is {self.shard_index}, num_shards {self.num_shards}; expected {named}.")

    def check_memory(self, memory_mb: int | None, device_type: str) -> None:
        """Raises `ValueError` if shards would each take the memory they find, which then makes different outputs."""
        if self.shard.is_part and not self.dry_run and memory_mb is None and device_type == "cuda":
            raise ValueError(
                f"num_shards is {self.num_shards} and memory_mb is not set: each shard would take what is free on its "
                "GPU, and results made with different values can't be merged. Set `memory_mb` in the recipe, to what "
                "every GPU has beside the model; the same command with `--dry_run` says what this one has."
            )

    @property
    def shard(self) -> Shard:
        return Shard(self.shard_index or 0, self.num_shards)
