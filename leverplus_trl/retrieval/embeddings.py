# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Embeddings of examples: a CLIP model or a sentence encoder computes them once, later calls read a memory-mapped table.

A table holds the embeddings of one modality. Its name is a hash of everything that affects them: the dataset, model,
revision and preprocessing.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, List, Value
from filelock import FileLock
from huggingface_hub.constants import HF_HOME
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, BatchEncoding, CLIPModel

from ..log import doing, progress
from ..output_files import UNFINISHED, delete, naming
from ..provenance import dataset_hash, json_hash, model_revision, versions
from ..tasks.images import DECODING, decode_image, have_images
from ..weights import load_safetensors
from .example_embeddings import COLUMNS, MODALITIES, ExampleEmbeddings, check_finite
from .sentence_encoder import SentenceEncoderFiles, TextSettings


logger = logging.getLogger(__name__)

SENTENCE_ENCODERS = ("albert", "bert", "deberta-v2", "distilbert", "modernbert", "mpnet", "roberta", "xlm-roberta")
# Position ids of these models start after the padding id, which reduces the maximum number of tokens.
OFFSET_POSITIONS = ("mpnet", "roberta", "xlm-roberta")
TABLE_FILE = "embeddings.arrow"
CARD = f"""---
configs:
- config_name: embeddings
  data_files: {TABLE_FILE}
---
Unit-length embeddings of examples. provenance.json has their provenance.
"""


class Encoder:
    """
    Encodes images and texts as unit vectors with a CLIP model (projected features of both towers), or texts with a
    sentence encoder (mean of the last hidden states without padding, the default of sentence-transformers). Long texts
    are truncated.

    Weights are loaded as float32 from safetensors, without remote code.

    Args:
        name_or_path (`str`):
            Hub id or folder.
        revision (`str`, *optional*):
            Branch, tag or commit on the hub.
        device (`str`, *optional*, defaults to `"cuda"` if it is available, else `"cpu"`):
            Device of the model.

    Raises:
        `ValueError`: the model is neither a CLIP model nor a supported sentence encoder, see
            [`SentenceEncoderFiles`].
    """

    def __init__(self, name_or_path: str, revision: str | None = None, device: str | None = None) -> None:
        self.name_or_path = name_or_path
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._source = {"revision": revision, "trust_remote_code": False}
        try:
            self.config = AutoConfig.from_pretrained(name_or_path, **self._source)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"The encoder {name_or_path!r} can't be read ({str(error).strip().splitlines()[0]}). Expected a "
                "folder or hub id of a CLIP model or of a sentence encoder, with its config.json."
            ) from error
        self.model_type = self.config.model_type
        if self.model_type != "clip" and self.model_type not in SENTENCE_ENCODERS:
            raise ValueError(
                f"The encoder {name_or_path!r} has the model type {self.model_type!r}; expected 'clip' for images and "
                f"texts, or a sentence encoder for texts only ({', '.join(SENTENCE_ENCODERS)})."
            )
        files, self.text_settings = SentenceEncoderFiles(name_or_path, revision), TextSettings()
        if self.model_type == "clip":
            files.check_clip()
        else:
            self.text_settings = files.text_settings()

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that can be encoded, of `"image"`, `"text"` and `"answer"`."""
        return MODALITIES if self.model_type == "clip" else ("text", "answer")

    def check_modality(self, modality: str) -> None:
        """Raises `ValueError` if the encoder can't encode this modality."""
        if modality not in self.modalities:
            raise ValueError(
                f"The encoder {self.name_or_path!r} ({self.model_type}) has no {modality} embeddings, only "
                f"{', '.join(self.modalities)}; use a CLIP model, or compare only texts."
            )

    @cached_property
    def model(self) -> torch.nn.Module:
        model_class = CLIPModel if self.model_type == "clip" else AutoModel
        options = {"dtype": torch.float32, **self._source}
        model = load_safetensors(model_class.from_pretrained, self.name_or_path, "encoder", **options)
        return model.eval().to(self.device)

    @cached_property
    def tokenizer(self):
        return AutoTokenizer.from_pretrained(self.name_or_path, **self._source)

    @cached_property
    def image_processor(self):
        # AutoProcessor returns only a tokenizer for an unknown folder. With Pillow, the pixels are the same with and
        # without torchvision.
        return AutoImageProcessor.from_pretrained(self.name_or_path, backend="pil", **self._source)

    @property
    def max_text_length(self) -> int:
        """Maximum number of tokens of a text."""
        config = self.config.text_config if self.model_type == "clip" else self.config
        offset = config.pad_token_id + 1 if self.model_type in OFFSET_POSITIONS else 0
        limit = self.text_settings.max_seq_length or self.tokenizer.model_max_length
        return min(config.max_position_embeddings - offset, limit)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Encodes B images of any mode and size as `[B, D_image]` float32 rows of unit length; raises `ValueError` if
        the encoder has no image tower."""
        pixel_values = self.preprocess(images).to(self.device)  # [B, 3, H, W]
        return _unit_rows(self.model.get_image_features(pixel_values=pixel_values).pooler_output)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes B texts as `[B, D_text]` float32 rows of unit length."""
        inputs = self.tokenize(texts).to(self.device)
        if self.model_type == "clip":
            mask = inputs["attention_mask"]
            features = self.model.get_text_features(input_ids=inputs["input_ids"], attention_mask=mask).pooler_output
            return _unit_rows(features)
        hidden = self.model(**inputs).last_hidden_state  # [B, T, D]
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)  # [B, T, 1]
        return _unit_rows((hidden * mask).sum(dim=1) / mask.sum(dim=1))  # [B, D]

    def preprocess(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """The input of the image tower, `[B, 3, H, W]`, of B images of any mode and size."""
        self.check_modality("image")
        inputs = self.image_processor(images=[decode_image(image) for image in images], return_tensors="pt")
        self._check_inputs(inputs, "pixel_values")
        return inputs["pixel_values"]

    def tokenize(self, texts: Sequence[str]) -> BatchEncoding:
        """The input of the text encoder: `input_ids` and `attention_mask`, `[B, T]`, padded to the longest text."""
        texts = [text.lower() if self.text_settings.do_lower_case else text for text in texts]
        inputs = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_text_length, return_tensors="pt"
        )
        self._check_inputs(inputs, "input_ids")
        return inputs

    @property
    def weights_revision(self) -> str:
        """The exact revision of the weights."""
        return model_revision(self.name_or_path, self._source["revision"])

    def _check_inputs(self, inputs: dict, name: str) -> None:
        if name not in inputs:
            raise ValueError(f"The processor of {self.name_or_path!r} returned {sorted(inputs)}, but no {name!r}.")


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
    Embeds the examples of a dataset, or reads the embeddings from a memory-mapped table if one exists. If several
    processes request the same embeddings, one computes them and the others wait.

    Args:
        examples (`Dataset`):
            Examples with the columns `id` and, by modality, `image`, `question` and `answer`.
        encoder (`str` or [`Encoder`]):
            A CLIP model, or a sentence encoder for texts: hub id, folder, or the loaded encoder.
        revision (`str`, *optional*):
            Branch, tag or commit on the hub.
        modalities (`Sequence[str]`, *optional*, defaults to `("image", "text")`):
            Modalities to embed.
        batch_size (`int`, *optional*, defaults to `64`):
            Examples per forward pass. Part of the table's name, since it affects rounding.
        embeddings_dir (`str`, *optional*, defaults to `<HF_HOME>/leverplus_trl/embeddings`):
            Folder of the tables.
        device (`str`, *optional*, defaults to `"cuda"` if it is available, else `"cpu"`):
            Device of the encoder.

    Returns:
        [`ExampleEmbeddings`], with `None` for the modalities that are not requested.

    Raises:
        `ValueError`: no examples, a missing column, a repeated id, an example without image or question, an image that
            can't be read, or a modality that the encoder does not support.
    """
    _check_request(examples, modalities, batch_size)
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


def _check_request(examples: Dataset, modalities: Sequence[str], batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
    if not modalities or not set(modalities) <= set(MODALITIES):
        raise ValueError(f"modalities is {modalities}; expected some of {MODALITIES}.")
    if len(examples) == 0:
        raise ValueError("There are no examples to embed.")
    for name in ("id", *(COLUMNS[modality] for modality in modalities)):
        if name not in examples.column_names:
            raise ValueError(f"The examples lack the column {name!r}; they have {', '.join(examples.column_names)}.")


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


def _unit_rows(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features, dim=-1).cpu().numpy()  # [B, D]


def usable_modalities(encoder: str, revision: str | None, *tables: Dataset) -> tuple[str, ...]:
    """The modalities, of `"image"`, `"text"` and `"answer"`, that an encoder supports and all examples of the tables
    have. Only the config of the encoder is loaded."""
    modalities = Encoder(encoder, revision).modalities
    if all(have_images(table) for table in tables):
        return modalities
    return tuple(modality for modality in modalities if modality != "image")
