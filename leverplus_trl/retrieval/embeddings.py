# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Embeddings of examples: a CLIP model or a sentence encoder computes them once, later calls read a memory-mapped table
of each modality. Its name is a hash of everything that affects them: the dataset, model, revision and preprocessing.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, List, Value
from filelock import FileLock
from huggingface_hub.constants import HF_HOME
from PIL import Image

from ..log import doing, progress
from ..output_files import UNFINISHED, delete, naming
from ..provenance import dataset_hash, json_hash, versions
from ..tasks.images import DECODING, have_images
from .encoder import COLUMNS, MODALITIES, Encoder


logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 65536  # that are checked at a time
TABLE_FILE = "embeddings.arrow"
CARD = f"""---
configs:
- config_name: embeddings
  data_files: {TABLE_FILE}
---
Unit-length embeddings of examples. provenance.json has their provenance.
"""


@dataclass
class ExampleEmbeddings:
    """Embeddings of a dataset's examples: finite float32 rows of unit length; raises `ValueError` for others."""

    ids: list[str]  #: The N unique ids.
    image: np.ndarray | None = None  #: `[N, D_image]`.
    text: np.ndarray | None = None  #: `[N, D_text]`, of the questions.
    answer: np.ndarray | None = None  #: `[N, D_text]`, of the answers.
    positions: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.ids = list(self.ids)
        self.positions = {}
        for position, example_id in enumerate(self.ids):
            if self.positions.setdefault(example_id, position) != position:
                raise ValueError(f"The id {example_id!r} comes more than once; ids must be unique.")
        for modality in MODALITIES:
            rows = getattr(self, modality)
            if rows is None:
                continue
            if not isinstance(rows, np.ndarray):
                kind = type(rows).__name__
                raise ValueError(f"The {modality} embeddings are a {kind}; expected a float32 np.ndarray.")
            if rows.ndim != 2 or len(rows) != len(self.ids):
                raise ValueError(f"Got {modality} embeddings of shape {rows.shape} for {len(self.ids)} ids.")
            check_finite(rows, self.ids, modality)

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Row numbers of the examples with these ids; raises `ValueError` for an unknown id."""
        missing = [example_id for example_id in ids if example_id not in self.positions]
        if missing:
            raise ValueError(
                f"No embedding of the example {missing[0]!r} ({len(missing)} such ids): these are the embeddings of "
                f"{len(self.ids)} other examples. Embed the split that the id comes from."
            )
        return np.array([self.positions[example_id] for example_id in ids], dtype=np.int64)


def refuse_repeated(candidate_ids: Sequence[str], owner: str) -> None:
    """Raises `ValueError` if the candidates of `owner` hold an id more than once, which could be selected twice."""
    if len(set(candidate_ids)) < len(candidate_ids):
        twice = next(name for name in candidate_ids if list(candidate_ids).count(name) > 1)
        raise ValueError(f"{owner} has the candidate {twice!r} more than once; expected different candidates.")


def check_finite(rows: np.ndarray, ids: Sequence[str], modality: str) -> None:
    """Raises `ValueError` if `rows` `[N, D]` are not float32 or hold NaN or infinite values."""
    if rows.dtype != np.float32:
        raise ValueError(
            f"The {modality} embeddings are {rows.dtype}; expected float32. Convert them with `.astype(np.float32)`, "
            "if their values have not overflowed."
        )
    for start in range(0, len(rows), ROWS_AT_ONCE):
        broken = np.argwhere(~np.isfinite(rows[start : start + ROWS_AT_ONCE]))  # [*, 2]
        if len(broken):
            row, column = broken[0]
            raise ValueError(
                f"The {modality} embedding of the example {ids[start + row]!r} holds {rows[start + row, column]} "
                f"(column {column}); expected finite numbers. The encoder overflows on this example, or its weights "
                "are damaged: check the example, or use another encoder."
            )


@doing("embedding examples")
def embed_examples(
    examples: Dataset,
    encoder: str | Encoder,
    revision: str | None = None,
    modalities: Sequence[str] = ("image", "text"),
    batch_size: int = 64,
    embeddings_dir: str | None = None,
    device: str | None = None,
) -> ExampleEmbeddings:
    """
    Embeds the examples of a dataset, or reads the embeddings from a memory-mapped table if it exists. If several
    processes request the same embeddings, one process computes them and the others wait. Modalities that are not
    requested are `None`.

    Args:
        examples (`Dataset`):
            Examples with the columns `id` and, by modality, `image`, `question` and `answer`.
        encoder (`str` or [`Encoder`]):
            A CLIP model, or a sentence encoder for texts: hub id (at `revision`), folder, or the loaded encoder.
        modalities (`Sequence[str]`, *optional*, defaults to `("image", "text")`):
            Modalities to embed.
        batch_size (`int`, *optional*, defaults to `64`):
            Examples per forward pass. Part of the table's name, since it affects rounding.
        embeddings_dir (`str`, *optional*, defaults to `<HF_HOME>/leverplus_trl/embeddings`):
            Folder of the tables.
        device (`str`, *optional*, defaults to `"cuda"` if it is available, else `"cpu"`):
            Device of the encoder.

    Raises:
        `ValueError`: an example that can't be read or encoded, a repeated id, or a modality without column or encoder.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
    if not modalities or not set(modalities) <= set(MODALITIES):
        raise ValueError(f"modalities is {modalities}; expected some of {MODALITIES}.")
    if len(examples) == 0:
        raise ValueError("There are no examples to embed.")
    for name in ("id", *(COLUMNS[modality] for modality in modalities)):
        if name not in examples.column_names:
            raise ValueError(f"The examples lack the column {name!r}; they have {', '.join(examples.column_names)}.")
    model = encoder if isinstance(encoder, Encoder) else Encoder(encoder, revision, device)
    for modality in modalities:
        model.check_modality(modality)
    examples = examples.with_format(None)
    ids = ExampleEmbeddings(list(examples["id"])).ids  # refuses repeated ids before the computation
    directory = Path(embeddings_dir or Path(HF_HOME) / "leverplus_trl" / "embeddings").expanduser()
    weights, rows = model.weights_revision, {}
    for modality in (name for name in MODALITIES if name in modalities):
        provenance = _provenance(examples, model, weights, modality, batch_size)
        table = directory / json_hash(provenance)
        if not table.exists():  # without a lock, since the folder may be read-only
            with _claimed(table):
                if not table.exists():
                    _write_table(table, ids, _encode_rows(examples, ids, model, modality, batch_size), provenance)
        rows[modality] = _read_table(table, ids)
    return ExampleEmbeddings(ids, **rows)


@contextmanager
def _claimed(table: Path) -> Iterator[None]:
    """Waits until no other process writes this table, and deletes unfinished tables of killed processes."""
    lock = FileLock(f"{table}.lock")
    with naming(table.parent):
        table.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        for unfinished in table.parent.glob(f"{UNFINISHED}*"):
            other = table.with_name(f"{unfinished.name.removeprefix(UNFINISHED)}.lock")
            if str(other) == lock.lock_file or not other.exists():
                delete(unfinished)
                continue
            with suppress(OSError), FileLock(other, blocking=False):  # fails if another process writes that table
                delete(unfinished)
        yield
    finally:
        lock.release()


def _provenance(examples: Dataset, model: Encoder, weights: str, modality: str, batch_size: int) -> dict:
    installed = versions()
    return {
        "dataset_hash": dataset_hash(examples, ["id", COLUMNS[modality]]),
        "encoder": model.name_or_path,
        "encoder_revision": weights,
        "modality": modality,
        "pooling": "projection" if model.model_type == "clip" else "mean",
        "dtype": "float32",
        "batch_size": batch_size,
        "device_type": torch.device(model.device).type,
        "versions": {name: installed[name] for name in ("torch", "transformers")},
        "image_decoding": DECODING if modality == "image" else None,
        # The limit of a CLIP model always follows from its config.
        "max_text_length": model.max_text_length if model.model_type != "clip" else None,
    }


def _encode_rows(examples: Dataset, ids: list[str], model: Encoder, modality: str, batch_size: int) -> np.ndarray:
    encode = model.encode_images if modality == "image" else model.encode_texts
    column = examples.select_columns([COLUMNS[modality]])
    # Equal texts are encoded once: rounding depends on the batch, and their similarities must tie exactly.
    keys = range(len(ids)) if modality == "image" else column[COLUMNS[modality]][:]
    first_positions = {}
    for position, key in enumerate(keys):
        first_positions.setdefault(key, position)
    firsts, slots = list(first_positions.values()), {key: slot for slot, key in enumerate(first_positions)}
    rows = []
    with progress(logger, f"Embedding {modality}s", len(firsts), modality) as bar:
        for start in range(0, len(firsts), batch_size):
            batch = firsts[start : start + batch_size]
            encoded = encode([read_value(column, position, ids[position]) for position in batch])  # [B, D]
            check_finite(encoded, [ids[position] for position in batch], modality)
            zero = np.flatnonzero(~encoded.any(axis=1))
            if zero.size:
                raise ValueError(
                    f"The {modality} embedding of the example {ids[batch[zero[0]]]!r} is all zeros, so its "
                    "cosine similarity is 0 / 0; check the example, or use another encoder."
                )
            rows.append(encoded)
            bar.update(start + len(batch))
    return np.concatenate(rows)[[slots[key] for key in keys]]  # [N, D]


def read_value(column: Dataset, position: int, example_id: str) -> Image.Image | str:
    """An image or a text of an example; raises `ValueError` with its id if it is missing or can't be read."""
    (name,) = column.column_names
    try:
        value = column[position][name]
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise ValueError(f"The {name} of the example {example_id!r} can't be read: {error}") from error
    if value is None:
        raise ValueError(
            f"The example {example_id!r} has no {name}, so it can't be embedded; drop it, or compare by "
            f"{'text' if name == 'image' else 'image'} alone."
        )
    if name != "image" and not isinstance(value, str):
        raise ValueError(f"The {name} of the example {example_id!r} is {value!r}; expected a string.")
    return value


def _write_table(table: Path, ids: list[str], rows: np.ndarray, provenance: dict) -> None:
    features = Features({"id": Value("string"), "embedding": List(Value("float32"), length=rows.shape[1])})
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    batch = pa.record_batch([pa.array(ids, pa.string()), embedding], schema=features.arrow_schema)
    unfinished = table.with_name(f"{UNFINISHED}{table.name}")
    try:
        with naming(table):
            unfinished.mkdir()
            # A single record batch can be read as an array without a copy.
            with (
                pa.OSFile(str(unfinished / TABLE_FILE), "wb") as sink,
                pa.ipc.new_stream(sink, batch.schema) as writer,
            ):
                writer.write_batch(batch)
            (unfinished / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
            (unfinished / "README.md").write_text(CARD, encoding="utf-8")
            os.rename(unfinished, table)
    finally:
        delete(unfinished)


def _read_table(table: Path, ids: list[str]) -> np.ndarray:
    """The embeddings `[N, D]` of a table, without a copy; raises `ValueError` if the table is damaged."""
    try:
        batch = pa.ipc.open_stream(pa.memory_map(str(table / TABLE_FILE))).read_next_batch()
        embedding = batch.column("embedding")
        rows = embedding.flatten().to_numpy(zero_copy_only=True).reshape(len(embedding), embedding.type.list_size)
        if batch.column("id").to_pylist() != ids:
            raise ValueError("it has other ids")
        check_finite(rows, ids, "stored")
    except (OSError, KeyError, StopIteration, pa.ArrowException, ValueError) as error:
        raise ValueError(
            f"The table of embeddings {str(table)!r} is damaged ({error}); delete this folder, and run again."
        ) from error
    return rows


def usable_modalities(encoder: str, revision: str | None, *tables: Dataset) -> tuple[str, ...]:
    """The modalities, of `"image"`, `"text"` and `"answer"`, that an encoder supports and all examples of the tables
    have. Only the config of the encoder is loaded."""
    modalities = Encoder(encoder, revision).modalities
    with_images = all(have_images(table) for table in tables)
    return tuple(modality for modality in modalities if modality != "image" or with_images)
