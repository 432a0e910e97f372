# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Model cards of the tiny models, filled from the run that made them.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
import transformers


_TEMPLATES = Path(__file__).parent / "templates"


def write_card(name: str, output_dir: Path, args, model, metrics: dict[str, float], minutes: float) -> None:
    """
    Writes `README.md` and `metrics.json` into a checkpoint's directory.

    Args:
        name (`str`): name of the template, `vlm` or `clip`.
        output_dir (`Path`): the checkpoint's directory.
        args: dataclass of the script's arguments.
        model ([`PreTrainedModel`]): the model as loaded from the directory.
        metrics (`dict[str, float]`): what the model reaches.
        minutes (`float`): duration of the training.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    arguments = {key: value for key, value in asdict(args).items() if key not in ("stage", "script", "output_dir")}
    run = {
        "arguments": arguments,
        "minutes": round(minutes, 1),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    (output_dir / "metrics.json").write_text(json.dumps({"metrics": metrics, **run}, indent=2) + "\n")
    card = (_TEMPLATES / f"{name}_card.md").read_text()
    values = {
        "parameters": f"{parameters / 1e6:.2f} M",
        "megabytes": f"{(output_dir / 'model.safetensors').stat().st_size / 1e6:.1f} MB",
        "minutes": f"{minutes:.0f}",
        "threads": str(args.num_threads),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "metrics": _table("measure", {key: f"{value:.3f}" for key, value in metrics.items()}),
        "arguments": _table("argument", arguments),
    }
    for key, value in values.items():
        card = card.replace("{{ " + key + " }}", value)
    (output_dir / "README.md").write_text(card)


def _table(heading: str, values: dict) -> str:
    return "\n".join([f"| {heading} | value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in values.items())])
