# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""
Batches for selectors that encode images and texts themselves: each distinct one of a batch once.

[`PixelDataset`] stands around any dataset of queries and candidates that has their rows, and puts pixels and tokens in
the place of stored embeddings.
"""

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
EMBEDS = ("query_embeds", "candidate_embeds", "swapped_query_embeds")

Batch = dict[str, torch.Tensor]


class EncoderTable:
    """
    Images and texts of examples as an encoder reads them, each distinct one once: images by their encoded bytes (or
    their path, if they are kept by reference), texts by their words.

    Args:
        encoder ([`Encoder`]):
            Whose image processor and tokenizer prepare them.
        cache_mb (`int`, *optional*, defaults to 4096):
            Memory for prepared images, of 602 KB each at 224 x 224. Those that don't fit are prepared anew for each
            batch, by the data loader's workers if there are any (`dataloader_num_workers`).
    """

    def __init__(self, encoder: Encoder, cache_mb: int = 4096):
        self.encoder, self.cache_mb = encoder, cache_mb
        self._image_numbers: dict[bytes | str, int] = {}
        self._images: list[tuple[Table, int, str]] = []  # column, row, id of the example
        self._text_numbers: dict[str, int] = {}
        self._pixels: torch.Tensor | None = None
        self._tokens: dict[str, torch.Tensor] = {}

    def add(self, examples: Table, features: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """
        Takes in some examples.

        Args:
            examples (`Table`):
                A dataset of N examples.
            features (`Sequence[str]`):
                What of them is encoded, of `"image"`, `"text"` and `"answer"`.
            rows (`np.ndarray`):
                Which of them.

        Returns:
            `np.ndarray` of shape `[N, F]`: their numbers among the images or texts; -1 for other examples.
        """
        numbers = np.full((len(examples), len(features)), -1, dtype=np.int64)
        rows = np.unique(rows)
        for position, feature in enumerate(features):
            column = examples.with_format(None).select_columns([COLUMNS[feature]])
            found = self._number_images(column, examples["id"], rows) if feature == "image" else None
            numbers[rows, position] = self._number_texts(column, examples["id"], rows) if found is None else found
        return numbers

    def prepare(self) -> "EncoderTable":
        """Tokenises all texts, and preprocesses images as long as there is memory; called when all are taken in."""
        if self._text_numbers:
            tokens = self.encoder.tokenize(list(self._text_numbers))
            self._tokens = {name: tokens[name] for name in ("input_ids", "attention_mask")}  # [V, T]
        if self._images:
            size = self._preprocess(np.arange(1)).nbytes
            count = min(len(self._images), self.cache_mb * 2**20 // size)
            starts = range(0, count, PREPARED_AT_ONCE)
            parts = []
            with progress(logger, "Preparing images", count, "image") as bar:
                for start in starts:
                    end = min(start + PREPARED_AT_ONCE, count)
                    parts.append(self._preprocess(np.arange(start, end)))
                    bar.update(end)
            self._pixels = torch.cat(parts) if parts else None  # [C, 3, H, W]
        return self

    def collect(self, **parts: tuple[Sequence[str], np.ndarray]) -> Batch:
        """
        The encoder's inputs for some examples.

        Args:
            **parts (`tuple[Sequence[str], np.ndarray]`):
                By name, features and numbers `[..., F]`.

        Returns:
            `dict`: for each part, its rows `[..., F]` among the distinct images or texts; `pixel_values`
            `[U, 3, H, W]`, `input_ids` and `attention_mask` `[V, T]` as far as they are features.
        """
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
                found = [parts[name][1][..., position] for name, position in columns]
                distinct, local = np.unique(np.concatenate([one.ravel() for one in found]), return_inverse=True)
                for (name, position), one in zip(columns, found, strict=True):
                    rows[name][..., position], local = local[: one.size].reshape(one.shape), local[one.size :]
                inputs |= prepared(distinct)
        # Rows first: what a batch begins with says how large it is.
        return {name: torch.from_numpy(one) for name, one in rows.items()} | inputs

    def _number_images(self, column: Table, ids: Sequence[str], rows: np.ndarray) -> list[int]:
        stored = column.cast_column("image", Image(decode=False))
        numbers = []
        for row in rows.tolist():
            value = stored[row]["image"] or {"bytes": None, "path": None}
            key = value["path"] if value["bytes"] is None else hashlib.sha256(value["bytes"]).digest()
            if key is None:
                read_value(column, row, ids[row])  # says what is missing
            number = self._image_numbers.setdefault(key, len(self._images))
            if number == len(self._images):
                self._images.append((column, row, ids[row]))
            numbers.append(number)
        return numbers

    def _number_texts(self, column: Table, ids: Sequence[str], rows: np.ndarray) -> list[int]:
        texts = [read_value(column, row, ids[row]) for row in rows.tolist()]
        return [self._text_numbers.setdefault(text, len(self._text_numbers)) for text in texts]

    def _preprocess(self, numbers: np.ndarray) -> torch.Tensor:
        return self.encoder.preprocess([read_value(*self._images[number]) for number in numbers])

    def _pixel_values(self, numbers: np.ndarray) -> Batch:
        """Sorted numbers `[U]` -> pixels `[U, 3, H, W]`."""
        kept = numbers[numbers < (0 if self._pixels is None else len(self._pixels))]
        rest = numbers[len(kept) :]
        parts = [self._pixels[torch.from_numpy(kept)]] if len(kept) else []
        parts += [self._preprocess(rest)] if len(rest) else []
        return {"pixel_values": torch.cat(parts) if len(parts) > 1 else parts[0]}

    def _token_ids(self, numbers: np.ndarray) -> Batch:
        """Numbers `[V]` -> tokens `[V, T]`, T that of the longest of these."""
        rows = torch.from_numpy(numbers)
        tokens = {name: table[rows] for name, table in self._tokens.items()}
        used = tokens["attention_mask"].any(0)  # [T], whichever side is padded
        return {name: table[:, used] for name, table in tokens.items()}


class PixelDataset(Dataset):
    """
    A dataset of queries and candidates, with pixels and tokens instead of embeddings. Everything else is that of the
    dataset it stands around.

    Args:
        dataset ([`SelectorDataset`] or [`RolloutDataset`]):
            The dataset: anything with `query_rows` `[Q]`, `candidate_rows` `[Q, K]`, `processor` and whole batches.
        table ([`EncoderTable`]):
            Images and texts.
        queries (`Table`):
            Examples that `query_rows` count.
        pool (`Table`):
            Examples that `candidate_rows` count.
        swapped (`bool`, *optional*, defaults to `True`):
            Whether batches hold the next queries, too, which evaluations swap in. Training has no use for them.
    """

    def __init__(self, dataset: Dataset, table: EncoderTable, queries: Table, pool: Table, swapped: bool = True):
        self.dataset, self.table, self.swapped = dataset, table, swapped
        candidates = dataset.candidate_rows[dataset.candidate_rows >= 0]
        processor = dataset.processor
        self.query_numbers = table.add(queries, processor.query_features, dataset.query_rows)  # [N, F]
        self.pool_numbers = table.add(pool, processor.candidate_features, candidates)  # [P, F]

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "dataset":  # asked for while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        """A whole batch at once; PyTorch's data loader asks for it if it is there."""
        batch = {name: value for name, value in self.dataset.__getitems__(indices).items() if name not in EMBEDS}
        return batch | self.encoder_inputs(indices)

    def encoder_inputs(self, indices: Sequence[int]) -> Batch:
        """
        What the selector's encoder reads of some queries and their candidates.

        Args:
            indices (`Sequence[int]`):
                B queries of this dataset.

        Returns:
            `dict` of what [`AdaptedEncoder`] takes, and `swapped_query_feature_rows` `[B, F]` with `swapped`.
        """
        dataset, processor = self.dataset, self.dataset.processor
        candidates = dataset.candidate_rows[indices]  # [B, K]
        # Padding names a candidate that is encoded anyway; the mask hides it.
        candidates = np.where(candidates >= 0, candidates, candidates.max(axis=1, keepdims=True))
        parts = {
            "query_feature_rows": (processor.query_features, self.query_numbers[dataset.query_rows[indices]]),
            "candidate_feature_rows": (processor.candidate_features, self.pool_numbers[candidates]),
        }
        if self.swapped:
            others = dataset.query_rows[(np.array(indices) + 1) % len(self)]  # [B]
            parts["swapped_query_feature_rows"] = (processor.query_features, self.query_numbers[others])
        return self.table.collect(**parts)


def with_pixels(
    model,
    datasets: dict[str, Dataset],
    queries: dict[str, Table],
    pool: Table,
    train_split: str,
    cache_mb: int = 4096,
) -> dict[str, Dataset]:
    """
    Datasets as a selector needs them: as they are, or, if it has an encoder of its own, with pixels and tokens.

    Args:
        model ([`BaseSelectorModel`]):
            The selector.
        datasets (`dict[str, SelectorDataset]` or `dict[str, RolloutDataset]`):
            By split.
        queries (`dict[str, Table]`):
            Examples that hold the queries, by split.
        pool (`Table`):
            Examples that hold the candidates.
        train_split (`str`):
            The split whose batches need no swapped queries.
        cache_mb (`int`, *optional*, defaults to 4096):
            Memory for prepared images.
    """
    if getattr(model, "encoder", None) is None:
        return datasets
    table = EncoderTable(SelectorEncoder(model.encoder, "cpu"), cache_mb)
    found = {
        split: PixelDataset(dataset, table, queries[split], pool, swapped=split != train_split)
        for split, dataset in datasets.items()
    }
    table.prepare()
    return found


def embed_inputs(model, inputs: Batch) -> Batch:
    """
    Encodes a batch once, for measures that ask the selector many times; only `forward` of the model is called.

    Args:
        model ([`PointerSelectorModel`]):
            The selector, wrapped or not.
        inputs (`dict`):
            A batch; one that has embeddings already is given back.

    Returns:
        `dict`: the batch with embeddings instead of pixels and tokens.
    """
    if "query_embeds" in inputs:
        return inputs
    rest = {name: value for name, value in inputs.items() if name not in ENCODER_INPUTS}
    other_rows = rest.pop("swapped_query_feature_rows", inputs["query_feature_rows"])  # [B, F]
    # Both queries of a batch in one forward, so that each image is encoded once.
    double = ("candidate_mask", "candidate_rows", "candidate_feature_rows")
    asked = {name: inputs[name] for name in ("pixel_values", "input_ids", "attention_mask") if name in inputs}
    asked |= {name: torch.cat([inputs[name], inputs[name]]) for name in double}  # [2B, ...]
    output = model(**asked, query_feature_rows=torch.cat([inputs["query_feature_rows"], other_rows]))
    own, swapped = output.query_embeds.chunk(2)  # [B, D] both
    candidates = output.candidate_embeds.chunk(2)[0]  # [B, K, D]
    return {"query_embeds": own, "candidate_embeds": candidates, "swapped_query_embeds": swapped} | rest
