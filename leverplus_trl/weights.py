# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Weights of models are read from safetensors, and from nothing else: a pickle can run any code."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError


if TYPE_CHECKING:
    import torch


#: Bytes that torch aligns its own memory to.
ALIGNMENT = 64
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
#: Files of a checkpoint that transformers reads as tensors alone (`weights_only`).
TRAINING_STATE = ("optimizer", "scheduler", "rng_state", "scaler", "training_args")


def refuse_pickles(name_or_path: str, what: str, loader: str = "AutoModel", hub: Mapping[str, Any] | None = None):
    """
    Raises `ValueError` if the weights of a folder or hub id are pickles, and there are no safetensors.

    `what` is a noun for the message (`"selector"`), `loader` the class of transformers that converts pickles, and
    `hub` the keywords (`revision`) to list the files of a hub id with; without them a hub id is not looked up.
    """
    names, folder = [], Path(name_or_path)
    if folder.is_dir():
        names = [file.name for file in folder.iterdir()]
    elif hub is not None:
        from huggingface_hub import list_repo_files

        with contextlib.suppress(Exception):  # without a connection the caller raises its own error
            names = list_repo_files(str(name_or_path), **hub)
    pickles = [name for name in sorted(names) if name.endswith(PICKLES) and not name.startswith(TRAINING_STATE)]
    if pickles and not any("model" in name and name.endswith(".safetensors") for name in names):
        raise ValueError(
            f"The {what} {str(name_or_path)!r} has pickled weights ({', '.join(pickles[:3])}) and no safetensors; "
            "pickles are refused, since loading them can run code. Where you trust them, convert them once with "
            f"`{loader}.from_pretrained({str(name_or_path)!r}, use_safetensors=False).save_pretrained(FOLDER)`, copy "
            "the other files there, and name that folder."
        )


def check_folder(name_or_path: str, what: str, loader: str = "AutoModel") -> None:
    """Raises `ValueError` for a local folder that holds no model, or pickled weights; a hub id is not looked up."""
    folder = Path(name_or_path)
    if not folder.is_dir():
        return
    names = sorted(file.name for file in folder.iterdir())
    if "config.json" not in names:
        inner = next((name for name in names if (folder / name / "config.json").is_file()), None)
        held = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
        raise ValueError(
            f"The {what} {str(name_or_path)!r} is a folder without config.json; it holds {held or 'nothing'}. "
            "Expected a folder with config.json and model.safetensors, as save_pretrained writes it. "
            + (f"Did you mean {str(folder / inner)!r}?" if inner else f"Name the folder of a {what}.")
        )
    refuse_pickles(name_or_path, what, loader)


def first_line(error: Exception) -> str:
    """The first line of another library's message."""
    return str(error).strip().split("\n")[0]


def load_safetensors(loader: Callable[..., Any], name_or_path: str, what: str, **kwargs) -> Any:
    """
    The result of `loader(name_or_path, use_safetensors=True, **kwargs)`, where `loader` is a `from_pretrained`.

    Raises `ValueError` if there are no safetensors, or they are damaged or of another architecture.
    """
    refuse_pickles(name_or_path, what)
    try:
        return loader(name_or_path, use_safetensors=True, **kwargs)
    except (OSError, SafetensorError, RuntimeError) as error:
        refuse_pickles(name_or_path, what, hub={"revision": kwargs.get("revision")})
        raise ValueError(
            f"The weights of the {what} {str(name_or_path)!r} can't be read ({type(error).__name__}: "
            f"{first_line(error)}). Expected a folder or hub id with a whole model.safetensors that fits its config."
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

    On the CPU the last bits of a matrix product depend on whether its operands begin at multiples of 64 bytes, and a
    mapped file begins elsewhere in every launch.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()
    return model
