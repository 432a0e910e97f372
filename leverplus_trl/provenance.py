# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Content hashes, revisions and versions: what an output depends on, for its record and for bug reports."""

import difflib
import hashlib
import json
import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Image

from .log import doing


#: Rows that are hashed at a time.
ROWS = 256
#: Packages whose versions are recorded.
PACKAGES = (
    *("leverplus_trl", "torch", "transformers", "datasets", "accelerate", "trl", "peft", "faiss-cpu", "numpy"),
    *("bitsandbytes", "open-flamingo"),
)
WEIGHT_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".gguf")


def json_hash(value: object) -> str:
    """Short hash of anything that `json.dumps` takes, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def dataset_hash(dataset: Dataset, columns: list[str] | None = None) -> str:
    """
    Hash of the values of a dataset, or of some columns, independent of its source and of how it is stored.

    Images are hashed by their encoded bytes; an image kept by reference only, by its path, size and modification time,
    which is faster than reading it. `ROWS` rows at a time are hashed, so memory does not grow with the dataset.
    """
    columns = sorted(columns or dataset.column_names)
    hasher = hashlib.sha256(json.dumps(columns).encode())
    for batch in dataset.select_columns(columns).with_format("arrow").iter(ROWS):
        for name in columns:
            values = pa.concat_arrays(batch[name].chunks)
            hash_values = _hash_images if isinstance(dataset.features[name], Image) else _hash_values
            hash_values(hasher, values)
    return hasher.hexdigest()[:16]


def _hash_images(hasher: "hashlib._Hash", images: pa.StructArray) -> None:
    for content, path in zip(*(images.field(name) for name in ("bytes", "path")), strict=True):
        if content.is_valid:
            hasher.update(hashlib.sha256(content.as_buffer()).digest())
        else:
            path = path.as_py()
            stat = os.stat(path) if path and os.path.exists(path) else None
            hasher.update(json.dumps([path, stat and stat.st_size, stat and stat.st_mtime_ns]).encode())


def _hash_values(hasher: "hashlib._Hash", values: pa.Array) -> None:
    """Which are null, then the others by their kind: equal values of another width or encoding give equal bytes."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    hasher.update(len(values).to_bytes(8, "big") + np.packbits(values.is_valid().to_numpy(False)).tobytes())
    values = values.drop_null()
    if not len(values):
        return
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if pa.types.is_struct(kind):
        for field in sorted(kind, key=lambda field: field.name):
            hasher.update(f"{field.name}:".encode())
            _hash_values(hasher, values.field(field.name))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        _hash_numbers(hasher, "lengths", pc.list_value_length(values).cast(pa.int64()))
        _hash_values(hasher, values.flatten())
    elif pa.types.is_boolean(kind):
        _hash_numbers(hasher, "booleans", values.cast(pa.int8()))
    elif pa.types.is_integer(kind):
        wide = pa.types.is_uint64(kind) and pc.max(values).as_py() >= 2**63
        _hash_numbers(hasher, "integers", values.cast(pa.uint64() if wide else pa.int64()))
    elif pa.types.is_floating(kind):
        _hash_numbers(hasher, "floats", values.cast(pa.float64()))
    else:
        if pa.types.is_fixed_size_binary(kind):
            values, kind = values.cast(pa.binary()), pa.binary()
        is_binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        try:
            values = values.cast(pa.large_binary() if is_binary else pa.large_string())
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            texts = [json.dumps(value, sort_keys=True, default=str) for value in values.to_pylist()]
            values = pa.array(texts, pa.large_string())
        _hash_numbers(hasher, "texts", pc.binary_length(values))
        _, offsets, content = values.buffers()
        start, *_, end = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
        hasher.update(memoryview(content or b"")[start:end])


def _hash_numbers(hasher: "hashlib._Hash", kind: str, numbers: pa.Array) -> None:
    hasher.update(f"{kind}:".encode() + numbers.to_numpy(False).astype(numbers.type.to_pandas_dtype()).tobytes())


def overlap_sentence(split: str, overlap: dict) -> str:
    """The facts on queries that are in the pool under another id (see [`~tasks.overlap.Overlap`]), in words."""
    offered = "are" if overlap["on_overlap"] == "allow" else "are not"
    return (
        f"{overlap['queries']} queries of split {split!r} are in the pool under another id, with the same image, "
        f"question and answer ({overlap['pool_examples']} examples); these {offered} among their candidates "
        f"(on_overlap: {overlap['on_overlap']})."
    )


@doing("looking up the model {name_or_path!r}")
def model_revision(name_or_path: str, revision: str | None = None) -> str:
    """
    Identifies a model's weights: the hash of the files of a local folder or file, else the commit of the hub
    repository. For an adapter, that of its base model is appended.

    Raises `ValueError` if there is neither a folder, a connection nor a cached snapshot.
    """
    path = Path(name_or_path)
    if path.exists():
        files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in WEIGHT_SUFFIXES)
        hasher = hashlib.sha256()
        for file in files:
            hasher.update(file.name.encode())
            with open(file, "rb") as handle:
                hasher.update(hashlib.file_digest(handle, "sha256").digest())
        adapter = path / "adapter_config.json"
        is_adapter = adapter.exists() and not (path / "config.json").exists()
        return hasher.hexdigest()[:16] + (_base_revision(adapter) if is_adapter else "")
    refuse_missing_folder(name_or_path)
    from transformers.utils import cached_file
    from transformers.utils.hub import extract_commit_hash

    options = {"revision": revision, "_raise_exceptions_for_gated_repo": False}
    base = ""
    file = cached_file(name_or_path, "config.json", _raise_exceptions_for_missing_entries=False, **options)
    if file is None:
        file = cached_file(name_or_path, "adapter_config.json", **options)
        base = _base_revision(Path(file))
    commit = extract_commit_hash(file, None)
    if commit is None:
        raise ValueError(
            f"No commit found for the model {name_or_path!r} at revision {revision!r}; name a local folder."
        )
    return commit + base


def _base_revision(adapter_config: Path) -> str:
    config = json.loads(adapter_config.read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path")
    return f"+{model_revision(base, config.get('revision'))}" if base else ""


def encoder_commit(name_or_path: str, revision: str | None = None) -> str:
    """[`model_revision`] of an encoder that a recipe, a selector or beams name, which may have moved since."""
    try:
        return model_revision(name_or_path, revision)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"The encoder {name_or_path!r} is not to be found ({error}). If it lies elsewhere now, set encoder: "
            "`encoder: PATH` in a recipe, encoder=PATH in Python."
        ) from error


def refuse_missing_folder(name_or_path: str) -> None:
    """Raises `ValueError` for a path that does not exist and can't be a hub id."""
    path = Path(name_or_path)
    is_path = path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1
    if is_path and not path.exists():
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), 1) if path.parent.is_dir() else []
        hint = f"Did you mean {str(path.parent / near[0])!r}?" if near else "Name a folder that is there, or a hub id."
        raise ValueError(f"There is no folder {name_or_path!r}. {hint}")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose numerics or formats an output depends on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            installed[package] = version(package)
    return installed


def describe_machine() -> str:
    """Versions and devices, a line each, for a bug report."""
    import torch

    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    facts = {
        **versions(),
        "platform": platform.platform(),
        "cpus": f"{os.cpu_count()}, {torch.get_num_threads()} threads of torch",
        "cuda": torch.version.cuda or "none",
        "gpus": ", ".join(devices) or "none",
    }
    return "\n".join(f"{name:<16}{value}" for name, value in facts.items())
