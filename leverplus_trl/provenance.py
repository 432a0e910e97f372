# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What made a table: content fingerprints, revisions, versions, and the record that stands beside every output."""

import difflib
import hashlib
import json
import os
from pathlib import Path

from datasets import Dataset, Image

from .activity import doing


WEIGHT_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".gguf")


def digest(value: object) -> str:
    """Short hash of anything that `json.dumps` takes, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def dataset_fingerprint(dataset: Dataset, columns: list[str] | None = None) -> str:
    """
    Hash of what the rows of a dataset say, independent of where it was loaded from and of how it is stored.

    Images are hashed by their encoded bytes; an image kept by reference only, by its path, size and modification time,
    since reading a whole COCO folder to name a cache entry would cost more than the entry.

    Args:
        dataset (`Dataset`):
            Table to fingerprint.
        columns (`list[str]`, *optional*, defaults to all columns):
            Columns that count.
    """
    columns = sorted(columns or dataset.column_names)
    plain = dataset.select_columns(columns)
    for name in columns:
        if isinstance(dataset.features[name], Image):
            plain = plain.cast_column(name, Image(decode=False))
    hasher = hashlib.sha256(json.dumps(columns).encode())
    for row in plain:
        for name in columns:
            hasher.update(_value_bytes(row[name]))
            hasher.update(b"\x1f")
    return hasher.hexdigest()[:16]


def _value_bytes(value: object) -> bytes:
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        if value["bytes"] is not None:
            return hashlib.sha256(value["bytes"]).digest()
        path = value["path"]
        stat = os.stat(path) if path and os.path.exists(path) else None
        return json.dumps([path, stat and stat.st_size, stat and stat.st_mtime_ns]).encode()
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()


def overlap_sentence(split: str, found: dict) -> str:
    """What a provenance says of queries that are in the pool under another id (see [`~tasks.overlap.Overlap`])."""
    offered = "are" if found["on_overlap"] == "allow" else "are not"
    return (
        f"{found['queries']} queries of split {split!r} are in the pool under another id, with the same image, "
        f"question and answer ({found['pool_examples']} examples); these {offered} among their candidates "
        f"(on_overlap: {found['on_overlap']})."
    )


@doing("looking up the model {name_or_path!r}")
def model_revision(name_or_path: str, revision: str | None = None) -> str:
    """
    What pins a model's weights: the hash of the files for a local folder or file, else the commit of the hub
    repository. Of an adapter, that of its base model stands behind it.

    Raises:
        `ValueError`: a hub id whose commit can't be found, because there is neither a connection nor a cached
        snapshot.
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
        alone = adapter.exists() and not (path / "config.json").exists()
        return hasher.hexdigest()[:16] + (_base_revision(adapter) if alone else "")
    refuse_missing_folder(name_or_path)
    from transformers.utils import cached_file
    from transformers.utils.hub import extract_commit_hash

    found = {"revision": revision, "_raise_exceptions_for_gated_repo": False}
    base = ""
    file = cached_file(name_or_path, "config.json", _raise_exceptions_for_missing_entries=False, **found)
    if file is None:
        file = cached_file(name_or_path, "adapter_config.json", **found)
        base = _base_revision(Path(file))
    commit = extract_commit_hash(file, None)
    if commit is None:
        raise ValueError(
            f"No commit found for the model {name_or_path!r} at revision {revision!r}; name a local folder."
        )
    return commit + base


def encoder_commit(name_or_path: str, revision: str | None = None) -> str:
    """The same of an encoder that a recipe, a selector or beams name, which may lie elsewhere by now."""
    try:
        return model_revision(name_or_path, revision)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"The encoder {name_or_path!r} is not to be found ({error}). If it lies elsewhere now, set encoder: "
            "`encoder: PATH` in a recipe, encoder=PATH in Python."
        ) from error


def refuse_missing_folder(name_or_path: str) -> None:
    """Raises `ValueError` for a path of a folder that is not there, which can be no hub id."""
    path = Path(name_or_path)
    is_path = path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1
    if is_path and not path.exists():
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), 1) if path.parent.is_dir() else []
        hint = f"Did you mean {str(path.parent / near[0])!r}?" if near else "Name a folder that is there, or a hub id."
        raise ValueError(f"There is no folder {name_or_path!r}. {hint}")


def _base_revision(adapter_config: Path) -> str:
    config = json.loads(adapter_config.read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path")
    return f"+{model_revision(base, config.get('revision'))}" if base else ""
