# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""The recipe keys every stage has."""

from dataclasses import dataclass, field


@dataclass
class StageArguments:
    """
    What every recipe may say, whatever its stage.

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
    """

    stage: str | None = field(default=None, metadata={"help": "Stage the recipe is for; its first key."})
    accelerate_config: str | None = field(
        default=None,
        metadata={"help": "Accelerate config to launch with: a path or the name of a file in accelerate_configs/."},
    )
    num_threads: int | None = field(default=None, metadata={"help": "CPU threads of one process."})
    dry_run: bool = field(default=False, metadata={"help": "Print what would be done and what it costs, then stop."})

    def check(self, stage: str) -> None:
        """Raises `ValueError` if the recipe was written for another stage."""
        if self.stage is not None and self.stage != stage:
            raise ValueError(
                f"This recipe says `stage: {self.stage}` and was given to the stage {stage!r}. "
                f"Run it with `leverplus {self.stage}` or `python -m leverplus_trl RECIPE.yaml`."
            )
