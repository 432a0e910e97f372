# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Weights of models are read from safetensors, and from nothing else: a pickle can run any code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError


if TYPE_CHECKING:
    import torch


#: Bytes that torch aligns its own memory to.
ALIGNMENT = 64
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
#: What transformers itself keeps beside the weights of a checkpoint, and reads as tensors alone (`weights_only`).
TRAINING_STATE = ("optimizer", "scheduler", "rng_state", "scaler", "training_args")


def pickles_in(folder: Path) -> list[str]:
    """Names of the files in a folder that hold pickled weights; none where safetensors are there, too."""
    if not folder.is_dir() or any(folder.glob("*model*.safetensors")):
        return []
    names = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    return [name for name in names if not name.startswith(TRAINING_STATE)]


def refuse_pickles(name_or_path: str, what: str) -> None:
    """
    Raises `ValueError` if the weights in a local folder are pickles.

    Args:
        name_or_path (`str`):
            Folder or hub id; a hub id is not looked up.
        what (`str`):
            What it is, for the message: `"selector"`, say.
    """
    found = pickles_in(Path(name_or_path))
    if found:
        raise ValueError(
            f"The {what} {str(name_or_path)!r} has pickled weights ({', '.join(found[:3])}) and no safetensors. A "
            "pickle can run any code, so it is never read: convert it to model.safetensors where you trust it."
        )


def load_safetensors(loader: Callable[..., Any], name_or_path: str, what: str, **kwargs) -> Any:
    """
    What `loader(name_or_path, use_safetensors=True, **kwargs)` returns.

    Args:
        loader (`Callable`):
            `from_pretrained` of a model.
        name_or_path (`str`):
            Folder or hub id.
        what (`str`):
            What it is, for the message: `"selector"`, say.
        **kwargs:
            What else the loader takes.

    Raises:
        `ValueError`: there are no safetensors, or they are damaged or of another architecture.
    """
    refuse_pickles(name_or_path, what)
    try:
        return loader(name_or_path, use_safetensors=True, **kwargs)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"The weights of the {what} {str(name_or_path)!r} can't be read ({type(error).__name__}: {reason}). "
            "Expected a folder or hub id with a whole model.safetensors that fits its config.json."
        ) from error


def check_weights(weights: Mapping[str, Any], where: str) -> None:
    """Raises `ValueError`, with the name, for a weight that is NaN or infinite."""
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(
                f"The weight {name!r} of {where} is not finite: it diverged in training, or its file is damaged. "
                "Train the selector again, with a lower learning_rate or without fp16."
            )


def align(model: "torch.nn.Module") -> "torch.nn.Module":
    """
    Copies weights that a file was mapped to into memory of torch, and returns the model.

    On the CPU the last bits of a matrix product depend on whether its operands begin at multiples of 64 bytes. Where a
    mapped file puts them, differs from one launch to another.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()
    return model
