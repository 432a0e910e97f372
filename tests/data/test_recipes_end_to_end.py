# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Each script of the embedded world from its recipe to its output, with a few steps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
SMALL = {
    "00_dataset": "--pool 3 --train 2 --validation 1 --test 1",
    "10_vlm": "--renderings 2 --vision_steps 3 --language_steps 20 --language_batch_size 8 --num_queries 5",
    "20_clip": "--pictures 100 --vision_steps 3 --steps 3 --batch_size 16 --probe_pictures 100",
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SMALL)
def test_recipe_runs_end_to_end(recipe, tmp_path):
    path = f"recipes/concept_binding_models/{recipe}.yaml"
    lines = (ROOT / path).read_text().splitlines()
    stage, script = [line for line in lines if line and not line.startswith("#")][:2]
    assert stage == "stage: prepare"
    command = [sys.executable, script.removeprefix("script: "), "--config", path, "--output_dir", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command += SMALL[recipe].split()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "{{" not in (tmp_path / "README.md").read_text()
    if recipe == "00_dataset":
        names = sorted(path.name.split("-")[0] for path in (tmp_path / "data").iterdir())
        assert names == ["pool", "test", "train", "validation"]
    else:
        assert (tmp_path / "model.safetensors").stat().st_size > 5e5
        metrics = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
        assert metrics and all(-1 <= value <= 1 for value in metrics.values())
