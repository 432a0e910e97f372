# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Batches of pixels and tokens, for selectors with an encoder of their own. Each distinct image or text of a batch is
encoded once."""

import hashlib
import logging
from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset as Table
from datasets import Image
from torch.utils.data import Dataset

from ..log import progress
from ..retrieval.embeddings import COLUMNS, Encoder, read_value
from ..selectors.encoder_lora import ENCODER_INPUTS, SelectorEncoder


logger = logging.getLogger(__name__)

PREPARED_AT_ONCE = 64

Batch = dict[str, torch.Tensor]


class EncoderTable:
    """
    The distinct images and texts of examples, preprocessed and tokenised as by `encoder`. Images are compared by their
    encoded bytes, or by their path if a dataset stores paths.

    `cache_mb` is the memory for preprocessed images in MiB; an image of 224 x 224 takes 602 KB. Images that do not fit
    are preprocessed for each batch, by the workers of the data loader (`dataloader_num_workers`) if there are any.
    """

    def __init__(self, encoder: Encoder, cache_mb: int = 4096):
        self.encoder, self.cache_mb = encoder, cache_mb
        self._image_numbers: dict[bytes | str, int] = {}
        self._images: list[tuple[Table, int, str]] = []  # column, row, id of the example
        self._text_numbers: dict[str, int] = {}
        self._pixels: torch.Tensor | None = None  # [C, 3, H, W] of the first images
        self._tokens: dict[str, torch.Tensor] = {}  # [V, T]

    def add(self, examples: Table, features: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """Adds the `rows` of a dataset of N examples. Returns `[N, F]`, the number of the image or text of each of the
        F features (`"image"`, `"text"` or `"answer"`); -1 for examples that were not added."""
        numbers = np.full((len(examples), len(features)), -1, dtype=np.int64)
        ids, rows = examples["id"], np.unique(rows)
        for position, feature in enumerate(features):
            column = examples.with_format(None).select_columns([COLUMNS[feature]])
            if feature == "image":
                stored = column.cast_column("image", Image(decode=False))
                own = [self._number_image(column, stored[row]["image"], row, ids[row]) for row in rows.tolist()]
            else:
                texts = [read_value(column, row, ids[row]) for row in rows.tolist()]
                own = [self._text_numbers.setdefault(text, len(self._text_numbers)) for text in texts]
            numbers[rows, position] = own
        return numbers

    def _number_image(self, column: Table, value: dict | None, row: int, example_id: str) -> int:
        value = value or {"bytes": None, "path": None}
        key = value["path"] if value["bytes"] is None else hashlib.sha256(value["bytes"]).digest()
        if key is None:
            read_value(column, row, example_id)  # raises an error that names the example
        number = self._image_numbers.setdefault(key, len(self._images))
        if number == len(self._images):
            self._images.append((column, row, example_id))
        return number

    def prepare(self) -> "EncoderTable":
        """Tokenises all texts, and preprocesses as many images as fit; called after all examples were added."""
        if self._text_numbers:
            tokens = self.encoder.tokenize(list(self._text_numbers))
            self._tokens = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        if self._images:
            size = self._preprocess(range(1)).nbytes
            count = min(len(self._images), self.cache_mb * 2**20 // size)
            parts = []
            with progress(logger, "Preparing images", count, "image") as bar:
                for start in range(0, count, PREPARED_AT_ONCE):
                    end = min(start + PREPARED_AT_ONCE, count)
                    parts.append(self._preprocess(range(start, end)))
                    bar.update(end)
            self._pixels = torch.cat(parts) if parts else None
        return self

    def collect(self, **parts: tuple[Sequence[str], np.ndarray]) -> Batch:
        """The inputs of the encoder for some parts, given by name as their features and numbers `[..., F]`: for each
        part, the rows `[..., F]` of its features among the distinct images or texts; and `pixel_values`
        `[U, 3, H, W]`, `input_ids` and `attention_mask` `[V, T]`, if there are images or texts."""
        rows = {name: np.empty_like(numbers) for name, (_, numbers) in parts.items()}
        inputs = {}
        for prepared, is_image in ((self._pixel_values, True), (self._token_ids, False)):
            columns = [
                (name, position)
                for name, (features, _) in parts.items()
                for position, feature in enumerate(features)
                if (feature == "image") == is_image
            ]
            if columns:
                numbers = [parts[name][1][..., position] for name, position in columns]
                distinct, local = np.unique(np.concatenate([part.ravel() for part in numbers]), return_inverse=True)
                for (name, position), part in zip(columns, numbers, strict=True):
                    rows[name][..., position], local = local[: part.size].reshape(part.shape), local[part.size :]
                inputs |= prepared(distinct)
        # Rows first: transformers reads the batch size from the first tensor.
        return {name: torch.from_numpy(values) for name, values in rows.items()} | inputs

    def _preprocess(self, numbers: Sequence[int]) -> torch.Tensor:
        return self.encoder.preprocess([read_value(*self._images[number]) for number in numbers])

    def _pixel_values(self, numbers: np.ndarray) -> Batch:
        """Sorted numbers `[U]` -> pixels `[U, 3, H, W]`."""
        kept = numbers[numbers < (0 if self._pixels is None else len(self._pixels))]
        parts = [self._pixels[torch.from_numpy(kept)]] if len(kept) else []
        if len(kept) < len(numbers):
            parts.append(self._preprocess(numbers[len(kept) :]))
        return {"pixel_values": torch.cat(parts) if len(parts) > 1 else parts[0]}

    def _token_ids(self, numbers: np.ndarray) -> Batch:
        """Numbers `[V]` -> tokens `[V, T]`, padded to the longest text."""
        tokens = {name: table[torch.from_numpy(numbers)] for name, table in self._tokens.items()}
        used = tokens["attention_mask"].any(0)  # [T], for padding on either side
        return {name: table[:, used] for name, table in tokens.items()}


class PixelDataset(Dataset):
    """
    A [`SelectorDataset`] or [`RolloutDataset`] whose batches hold pixels and tokens, collected by `table`, instead of
    embeddings. All other attributes are those of the dataset.

    `query_rows` and `candidate_rows` index the examples `queries` and `pool`. With `swapped`, batches hold the swapped
    queries, which only evaluations need.
    """

    def __init__(self, dataset: Dataset, table: EncoderTable, queries: Table, pool: Table, swapped: bool = True):
        self.dataset, self.table, self.swapped = dataset, table, swapped
        candidates = dataset.candidate_rows[dataset.candidate_rows >= 0]
        processor = dataset.processor
        self.query_numbers = table.add(queries, processor.query_features, dataset.query_rows)  # [N, F]
        self.pool_numbers = table.add(pool, processor.candidate_features, candidates)  # [P, F]

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "dataset":  # unpickling reads attributes before they exist
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        """A whole batch; the data loader of PyTorch calls this method if a dataset has it."""
        dataset, processor = self.dataset, self.dataset.processor
        candidates = dataset.candidate_rows[indices]  # [B, K]
        # Padding repeats a candidate of the query, which is encoded in any case; the mask hides it.
        candidates = np.where(candidates >= 0, candidates, candidates.max(axis=1, keepdims=True))
        parts = {
            "query_feature_rows": (processor.query_features, self.query_numbers[dataset.query_rows[indices]]),
            "candidate_feature_rows": (processor.candidate_features, self.pool_numbers[candidates]),
        }
        if self.swapped:
            others = dataset.query_rows[(np.array(indices) + 1) % len(self)]  # [B]
            parts["swapped_query_feature_rows"] = (processor.query_features, self.query_numbers[others])
        batch = dataset.__getitems__(indices)
        return {name: batch[name] for name in batch if not name.endswith("_embeds")} | self.table.collect(**parts)


def with_pixels(
    model, datasets: dict[str, Dataset], queries: dict[str, Table], pool: Table, train_split: str, cache_mb: int = 4096
) -> dict[str, Dataset]:
    """The `datasets`, by split, as [`PixelDataset`]s if the selector has an encoder of its own. `queries` are the
    examples of the queries, by split; `pool` holds the candidates, and the batches of `train_split` have no swapped
    queries. `cache_mb` is that of [`EncoderTable`]."""
    if model.encoder is None:
        return datasets
    table = EncoderTable(SelectorEncoder(model.encoder, "cpu"), cache_mb)
    with_encoder_inputs = {
        split: PixelDataset(dataset, table, queries[split], pool, swapped=split != train_split)
        for split, dataset in datasets.items()
    }
    table.prepare()
    return with_encoder_inputs


def embed_inputs(model, inputs: Batch) -> Batch:
    """The batch with embeddings instead of pixels and tokens, for measures that call the selector many times. Only
    `forward` of the model is called. A batch that has embeddings is returned as it is."""
    if "query_embeds" in inputs:
        return inputs
    rest = {name: value for name, value in inputs.items() if name not in ENCODER_INPUTS}
    other_rows = rest.pop("swapped_query_feature_rows", inputs["query_feature_rows"])  # [B, F]
    # One forward for the queries and the swapped queries, so that each image is encoded once.
    double = ("candidate_mask", "candidate_rows", "candidate_feature_rows")
    encoded = {name: inputs[name] for name in ("pixel_values", "input_ids", "attention_mask") if name in inputs}
    encoded |= {name: torch.cat([inputs[name], inputs[name]]) for name in double}  # [2B, ...]
    output = model(**encoded, query_feature_rows=torch.cat([inputs["query_feature_rows"], other_rows]))
    own, swapped = output.query_embeds.chunk(2)  # [B, D] both
    candidates = output.candidate_embeds.chunk(2)[0]  # [B, K, D]
    return {"query_embeds": own, "candidate_embeds": candidates, "swapped_query_embeds": swapped} | rest
