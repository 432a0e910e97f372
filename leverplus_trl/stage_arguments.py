# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of every stage, and of the stages that a job array may share or whose tables are pushed."""

from dataclasses import dataclass

from .fields import check_fields, documented, option


@dataclass(frozen=True)
class Shard:
    """The part of a job that one launch of a job array does: every `count`-th unit of work, from unit `index`."""

    index: int = 0
    count: int = 1

    @property
    def is_part(self) -> bool:
        return self.count > 1

    def takes(self, number: int) -> bool:
        """Whether the unit of this number, counted from 0, belongs to this part."""
        return number % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


@documented
@dataclass(kw_only=True)
class OutputArguments:
    """Messages: how much is said on the terminal; the log of the output folder has it all."""

    quiet: bool = option("Say only warnings and errors.", False)
    verbose: bool = option("Say the warnings of other libraries, too.", False)
    traceback: bool = option("Print the traceback of an error.", False)


@documented
@dataclass
class StageArguments(OutputArguments):
    """Run: keys of the recipes of every stage."""

    stage: str | None = option("Stage the recipe is for; its first key.", None)
    accelerate_config: str | None = option(
        "Accelerate config to launch with: a path, or a name in accelerate_configs/.", None
    )
    num_threads: int | None = option(
        "CPU threads of one process. Another number changes the last bits of an output; small models are "
        "fastest with 1.",
        None,
        min=1,
        max=1024,
    )
    dry_run: bool = option("Print what would be done and what it costs, then stop.", False)
    overwrite: bool = option(
        "Delete earlier output in output_dir, of whatever recipe, and start anew. Files that no stage wrote are kept.",
        False,
    )

    def __post_init__(self):
        check_fields(self)


@documented
@dataclass
class ShardedStageArguments(StageArguments):
    """Parallel runs: how a stage that calls the VLM is cut into the tasks of a job array."""

    num_shards: int = option(
        "Launches among which the job is cut (a job array). When all are done, `leverplus merge` writes the "
        "tables, byte for byte those of a single launch.",
        1,
        min=1,
    )
    shard_index: int | None = option("Which of them this is, counted from 0.", None, min=0)

    def __post_init__(self):
        super().__post_init__()
        indices = f"0 to {self.num_shards - 1}"
        if self.shard_index is None and self.num_shards > 1:
            raise ValueError(f"num_shards is {self.num_shards}: set shard_index, {indices}, to say which one this is.")
        if (self.shard_index or 0) >= self.num_shards:
            raise ValueError(f"shard_index is {self.shard_index}, num_shards {self.num_shards}; expected {indices}.")

    def check_memory(self, memory_mb: int | None, device_type: str) -> None:
        """Raises `ValueError` if shards would each take the memory they find, which makes different outputs."""
        if self.shard.is_part and not self.dry_run and memory_mb is None and device_type == "cuda":
            raise ValueError(
                f"num_shards is {self.num_shards} and memory_mb is not set: each shard would take what is free on its "
                "GPU, and results made with different values can't be merged. Set `memory_mb` in the recipe, to what "
                "every GPU has beside the model; the same command with `--dry_run` says what this one has."
            )

    @property
    def shard(self) -> Shard:
        return Shard(self.shard_index or 0, self.num_shards)


@documented
@dataclass
class HubArguments:
    """Hub: where a stage's tables are shared."""

    push_to_hub: str | None = option(
        "Dataset repository, user/name, that the tables are pushed to. Whether it can be written to is "
        "checked before the work begins; a stage that is complete only pushes.",
        None,
    )
    hub_private_repo: bool | None = option(
        "Whether that repository is private. If not given, the namespace decides when it is created.", None
    )

    def __post_init__(self):
        if self.push_to_hub is not None:
            from .hub import check_repo_id

            check_repo_id(self.push_to_hub)
