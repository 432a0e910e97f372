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

"""An output folder: who made it, with which recipe, and what it said while doing so."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from filelock import FileLock, Timeout

from .provenance import versions


#: Recipe keys that may differ between the run that began an output and the one that goes on with it.
FREE_KEYS = (
    *("stage", "output_dir", "dry_run", "accelerate_config", "num_threads", "cache_mb", "embeddings_dir"),
    # Where an output is shared says nothing about what it is.
    *("push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_always_push"),
    "hub_token",
)
#: Packages whose versions decide the last bits of what a model computes.
NUMERIC_PACKAGES = ("torch", "transformers")


class RunFolder:
    """
    Claims an output folder for one recipe, before anything expensive is loaded.

    Writes `recipe.yaml` and `provenance.json`, and lets everything that is logged go to `run.log`, too.

    Args:
        output_dir (`str`):
            The folder.
        stage (`str`):
            Stage that writes into it.
        recipe (`dict`):
            All its arguments, by name.
        facts (`dict`, *optional*):
            What else the output depends on (fingerprints, revisions); compared like the recipe.

    Raises:
        `ValueError`: the folder can't be written to, holds what another recipe made (nothing is ever mixed), or
            another launch is writing into it.
    """

    def __init__(self, output_dir: str, stage: str, recipe: dict[str, Any], facts: dict[str, Any] | None = None):
        self.path = Path(output_dir)
        self.state = PartialState()
        self.provenance = {
            "stage": stage,
            "recipe": json.loads(json.dumps(recipe, default=str)),
            # The thread count in force, not the one asked for: launchers choose one where none is asked for.
            "facts": {**(facts or {}), "num_threads": torch.get_num_threads(), "device": self.state.device.type},
            "versions": versions(),
        }
        if self.state.is_main_process:
            self._claim()
        self.state.wait_for_everyone()
        self._log_to_file()

    def _claim(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"The output folder {str(self.path)!r} can't be written to ({error}). Name another `output_dir`."
            ) from error
        # Held until this object goes, and by the operating system no longer than the process lives.
        self._lock = FileLock(self.path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(
                f"Another launch is writing into {str(self.path)!r}. Wait until it ends, or name another "
                "`output_dir`; to do one job with more processes, start them in one launch."
            ) from error
        file = self.path / "provenance.json"
        if file.exists():
            self._refuse_other_recipe(json.loads(file.read_text(encoding="utf-8")))
            return
        recipe = yaml.safe_dump(self.provenance["recipe"], sort_keys=False)
        (self.path / "recipe.yaml").write_text(recipe, encoding="utf-8")
        write_json(file, self.provenance)

    def _refuse_other_recipe(self, before: dict[str, Any]) -> None:
        def plain(provenance: dict[str, Any]) -> dict[str, Any]:
            recipe = {key: value for key, value in provenance["recipe"].items() if key not in FREE_KEYS}
            numerics = {name: provenance["versions"].get(name) for name in NUMERIC_PACKAGES}
            return {"stage": provenance["stage"], **recipe, **provenance["facts"], **numerics}

        old, new = plain(before), plain(self.provenance)
        different = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        if different:
            named = "; ".join(f"{key}: {old.get(key)!r} there, {new.get(key)!r} here" for key in different)
            raise ValueError(
                f"{str(self.path)!r} holds the output of another recipe ({named}). Use another `output_dir`, or "
                "delete the folder if you don't need it any more; outputs of different recipes are never mixed."
            )

    def _log_to_file(self) -> None:
        if not self.state.is_main_process:
            return
        handler = logging.FileHandler(self.path / "run.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(handler)
        logging.getLogger("leverplus_trl").setLevel(logging.INFO)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file so that it is either whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
