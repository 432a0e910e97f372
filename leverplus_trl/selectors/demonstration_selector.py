# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Selects demonstrations in one line: from a question and an image to examples of a pool, in prompt order."""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from huggingface_hub import CommitInfo
from PIL import Image
from transformers import AutoModel, AutoProcessor
from transformers.utils import cached_file

from ..hub import PLACEHOLDER, push_selector
from ..log import doing
from ..provenance import json_hash
from ..retrieval.candidate_sampler import CandidateSampler, check_sampler
from ..retrieval.embeddings import (
    COLUMNS,
    MODALITIES,
    Encoder,
    ExampleEmbeddings,
    embed_examples,
    refuse_repeated,
)
from ..retrieval.sampler_arguments import sampler_modalities
from ..tasks.images import decode_image, image_source
from ..weights import align
from .base_selector import BaseSelectorModel
from .base_selector_config import read_selector_config, selector_card
from .encoder_lora import SelectorEncoder, copied_encoder, copy_encoder
from .processing_selector import SelectorProcessor


@dataclass
class DemonstrationSelection:
    """The demonstrations of a query. A selector with `stop` may choose fewer than `num_shots`, or none."""

    query: dict[str, Any]  #: The query as an example.
    demonstration_ids: list[str]  #: Ids of the chosen examples in prompt order: the last is next to the query.
    demonstrations: list[dict[str, Any]]  #: Their rows of the pool, in the same order.
    candidate_ids: list[str]  #: The candidates.
    demonstration_positions: list[int]  #: Positions of the chosen candidates, in selection order.
    logprob: float  #: Log-probability of this sequence under the selector.

    @property
    def request(self) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
        """The arguments of a VLM's request: `Request(*selection.request)`."""
        return tuple(self.demonstrations), self.query


class DemonstrationSelector:
    """
    A trained selector together with a pool of examples.

    Args:
        model ([`BaseSelectorModel`]), processor ([`SelectorProcessor`]):
            The selector.
        pool (`Dataset`):
            Examples to choose from, with the columns `id`, `question`, and `image` if images are read.
        encoder, encoder_revision (`str`, *optional*, default to those in the config):
            The frozen encoder, if it is not where it was in training. (Only samplers use it without its adapters.)
            A different encoder gives a warning.
        sampler, num_candidates, sampler_seed (*optional*, default to those in the config):
            How candidates are drawn.
        batch_size (`int`, *optional*, defaults to 64):
            Examples per batch of the encoder, and queries per batch of the selector.
        embeddings_dir (`str`, *optional*):
            Folder of the embeddings, see [`embed_examples`].

    Raises:
        `ValueError`: no encoder is named, the pool lacks a column that the selector reads, or the selector supports
            another pool alone (v0).

    Example:

    ```python
    >>> from leverplus_trl.selectors import DemonstrationSelector

    >>> selector = DemonstrationSelector.from_pretrained("outputs/demo/sft", pool=pool)
    >>> selection = selector.select(image=image, question="what is it ?", num_shots=2)
    >>> selection.demonstration_ids
    ```
    """

    def __init__(
        self,
        model: BaseSelectorModel,
        processor: SelectorProcessor,
        pool: Dataset,
        encoder: str | None = None,
        encoder_revision: str | None = None,
        sampler: str | None = None,
        num_candidates: int | None = None,
        sampler_seed: int | None = None,
        batch_size: int = 64,
        embeddings_dir: str | None = None,
    ):
        config = model.config
        pool = check_examples(pool, config.candidate_features, "pool")
        if not len(pool):
            raise ValueError("The pool is empty; expected at least as many examples as candidates of a query.")
        self.model, self.processor, self.pool = model.eval(), processor, pool
        self.encoder = encoder or config.encoder
        if self.encoder is None:
            raise ValueError(
                "The selector's config names no encoder; say which encoder embedded its training data: encoder=..."
            )
        # A revision belongs to the model that it was given for.
        self.encoder_revision = encoder_revision if encoder or encoder_revision else config.encoder_revision
        self.sampler = sampler or config.sampler
        self.num_candidates = config.num_candidates if num_candidates is None else num_candidates
        self.sampler_seed = config.sampler_seed if sampler_seed is None else sampler_seed
        self.batch_size, self.embeddings_dir = batch_size, embeddings_dir
        check_sampler(self.sampler, self.num_candidates)  # before the pool is embedded
        config.check_pool(pool)
        config.check_encoder(self.encoder, self.encoder_revision, strict=encoder is None)
        self._adapted = model.encoder and SelectorEncoder(model.encoder, str(model.device))
        self.pool_embeddings, self._compared_pool = self._embed(pool, config.candidate_features, self.sampler)
        self._samplers: dict[tuple, CandidateSampler] = {}
        self._sampler_of(self.sampler, self.num_candidates, self.sampler_seed)  # refuses a pool that is too small

    @classmethod
    @doing("loading the selector {name_or_path!r}")
    def from_pretrained(
        cls, name_or_path: str, pool: Dataset, revision: str | None = None, device: str | None = None, **kwargs
    ) -> "DemonstrationSelector":
        """
        Loads a selector from a folder, or from the hub at `revision`, and runs it on `device`, by default `"cuda"` if
        it is available. `kwargs` are further arguments of [`DemonstrationSelector`].

        Raises:
            `ValueError`: no selector, or weights that are pickled, damaged or not finite.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        name_or_path = str(name_or_path)
        config = read_selector_config(name_or_path, revision)
        kwargs["encoder"] = encoder = kwargs.get("encoder") or copied_encoder(name_or_path, revision)
        if encoder is not None and config.lora is not None:  # the model loads it
            config.encoder, config.encoder_revision = encoder, kwargs.get("encoder_revision")
        model = align(AutoModel.from_pretrained(name_or_path, config=config, revision=revision)).to(device)
        processor = AutoProcessor.from_pretrained(name_or_path, revision=revision)
        features = (processor.query_features, processor.candidate_features)
        if features != (config.query_features, config.candidate_features):
            raise ValueError(
                f"The selector {name_or_path!r} was trained on {config.query_features} of a query and "
                f"{config.candidate_features} of a candidate, but its processor_config.json names {features[0]} and "
                f"{features[1]}, or is missing; take it from the folder of the training."
            )
        return cls(model, processor, pool, **kwargs)

    def push_to_hub(self, repo_id: str, **kwargs) -> CommitInfo:
        """
        Pushes the selector to the model repository `repo_id` in one commit: model, processor, card, and the encoder's
        copy in the selector's folder, if it exists. `kwargs` are `private`, `token`, `revision` and `message` of
        [`~leverplus_trl.hub.push_files`].
        """
        origin = self.model.name_or_path  # empty for a model that was not loaded
        commit = getattr(self.model.config, "_commit_hash", None)
        with tempfile.TemporaryDirectory() as folder:
            self.model.save_pretrained(folder)
            self.processor.save_pretrained(folder)
            if origin and self.encoder == copied_encoder(origin, commit):
                copy_encoder(self.encoder, None, Path(folder))
            where = {"revision": commit, "_raise_exceptions_for_missing_entries": False}
            card = origin and cached_file(origin, "README.md", **where)
            if card:
                text = Path(card).read_text(encoding="utf-8").replace(f'"{origin}"', f'"{PLACEHOLDER}"')
            else:
                text = selector_card(self.model.config)
            (Path(folder) / "README.md").write_text(text, encoding="utf-8")
            return push_selector(Path(folder), repo_id, **kwargs)

    def select(
        self, question: str, image: Any = None, num_shots: int = 2, id: str | None = None, **kwargs
    ) -> DemonstrationSelection:
        """
        Selects `num_shots` demonstrations for a query.

        Args:
            question (`str`):
                The question.
            image (`Image.Image`, `str`, `Path`, `bytes`, `np.ndarray` or `dict`, *optional*):
                Its image: a PIL image, a file or its bytes, a uint8 array `[H, W]`, `[H, W, 3]` or `[H, W, 4]`, or
                `{"bytes", "path"}` as `datasets` stores it.
            id (`str`, *optional*, defaults to a hash of question and image):
                The query's id: the seed of its random candidates. An example of the pool with this id is no candidate.
            **kwargs:
                Further arguments of [`~DemonstrationSelector.select_batch`]; `candidate_ids` may be one list.

        Raises:
            `ValueError`: as [`~DemonstrationSelector.select_batch`], or an argument of another type.
        """
        query = make_query(question, image, id)
        candidate_ids = kwargs.get("candidate_ids")
        if isinstance(candidate_ids, (list, tuple)) and all(isinstance(name, str) for name in candidate_ids):
            kwargs["candidate_ids"] = [candidate_ids]
        return self._select([query], num_shots, **kwargs)[0]

    def select_batch(self, queries: Dataset, num_shots: int = 2, **kwargs) -> list[DemonstrationSelection]:
        """
        Selects `num_shots` demonstrations for every row of a dataset, in its order.

        Args:
            queries (`Dataset`):
                Queries with the columns `id`, `question`, and `image` if images are read.
            candidate_ids (`list[list[str]]`, *optional*):
                Candidates of each query; drawn by the sampler if not given.
            sampler, num_candidates, sampler_seed (*optional*):
                How candidates are drawn in this call.
            strategy, num_beams, temperature, generator (*optional*):
                See [`BaseSelectorModel.select`].

        Raises:
            `ValueError`: no `Dataset`, a missing column, an image that can't be decoded, more shots than candidates,
                or candidates that are unknown or repeated.
        """
        queries = check_examples(queries, self.model.config.query_features, "queries")
        return self._select(queries, num_shots, **kwargs) if len(queries) else []

    def embed_queries(self, queries: Dataset) -> ExampleEmbeddings:
        """The embeddings of queries that this selector reads."""
        return self._embed(queries, self.model.config.query_features, "random")[0]

    def _select(
        self,
        queries: Dataset | list[dict],
        num_shots: int,
        candidate_ids: Sequence[Sequence[str]] | None = None,
        sampler: str | None = None,
        num_candidates: int | None = None,
        sampler_seed: int | None = None,
        **strategy,
    ) -> list[DemonstrationSelection]:
        sampler = sampler or self.sampler
        embeddings, compared = self._embed(queries, self.model.config.query_features, sampler)
        if candidate_ids is None:
            num_candidates = self.num_candidates if num_candidates is None else num_candidates
            sampler_seed = self.sampler_seed if sampler_seed is None else sampler_seed
            candidate_ids = self._sampler_of(sampler, num_candidates, sampler_seed).sample(embeddings.ids, compared)
        else:
            candidate_ids = check_candidates(candidate_ids, embeddings.ids, self.pool_embeddings.positions)
        selections = []
        for start in range(0, len(queries), self.batch_size):
            candidates = candidate_ids[start : start + self.batch_size]
            ids = embeddings.ids[start : start + self.batch_size]
            inputs = self.processor(embeddings, ids, self.pool_embeddings, candidates).to(self.model.device)
            selected = self.model.select(**inputs, num_shots=num_shots, **strategy)
            rows = zip(selected.demonstration_positions.tolist(), selected.logprobs.tolist(), strict=True)
            for row, (positions, logprob) in enumerate(rows):
                positions = [position for position in positions if position >= 0]
                chosen = [candidates[row][position] for position in positions]
                if self.model.config.insertion == "left":  # the first pick is next to the query
                    chosen.reverse()
                demonstrations = [self.pool[int(place)] for place in self.pool_embeddings.rows(chosen)]
                of_query = (queries[start + row], chosen, demonstrations, candidates[row], positions, logprob)
                selections.append(DemonstrationSelection(*of_query))
        return selections

    def _sampler_of(self, *arguments) -> CandidateSampler:
        if arguments not in self._samplers:
            self._samplers[arguments] = CandidateSampler(self._compared_pool, *arguments)
        return self._samplers[arguments]

    @cached_property
    def _frozen(self) -> Encoder:
        return Encoder(self.encoder, self.encoder_revision)

    def _embed(
        self, examples: Dataset | list[dict], features: Sequence[str], sampler: str
    ) -> tuple[ExampleEmbeddings, ExampleEmbeddings]:
        """The embeddings that the selector reads, and those that the sampler compares, which differ with adapters."""
        own, compared = set(features), set(sampler_modalities(sampler))
        if self._adapted is None:
            return (self._embed_by(None, examples, own | compared),) * 2
        return self._embed_by(self._adapted, examples, own), self._embed_by(None, examples, compared)

    def _embed_by(
        self, adapted: Encoder | None, examples: Dataset | list[dict], needed: set[str]
    ) -> ExampleEmbeddings:
        """The embeddings of a dataset from a table on disk, or of a list with a single query."""
        if isinstance(examples, list):
            (query,), image, text, encoder = examples, None, None, adapted or self._frozen
            if "image" in needed:
                if query["image"] is None:
                    raise ValueError("This selector looks at the query's image: select(image=..., question=...).")
                image = encoder.encode_images([query["image"]])  # [1, D_image]
            if "text" in needed:
                text = encoder.encode_texts([query["question"]])  # [1, D_text]
            return ExampleEmbeddings([query["id"]], image, text)
        if not needed:  # v0 may read the ids of the pool alone
            return ExampleEmbeddings(list(examples["id"]))
        # By name: an encoder in memory for a table alone would leave less of it to the VLM.
        return embed_examples(
            examples,
            adapted or self.encoder,
            revision=None if adapted else self.encoder_revision,
            modalities=tuple(name for name in MODALITIES if name in needed),
            batch_size=self.batch_size,
            embeddings_dir=self.embeddings_dir,
        )


def check_examples(examples: Any, features: Iterable[str], name: str) -> Dataset:
    """The argument `name` with plain Python values as rows; raises `ValueError` if it is no `Dataset`, lacks a
    column, or has an id that is not a string."""
    if not isinstance(examples, Dataset):
        advice = "`Dataset.from_list(rows)` makes one"
        if isinstance(examples, DatasetDict):
            advice = f"it has the splits {', '.join(map(repr, examples))}: name one of them"
        raise ValueError(f"{name} is a {type(examples).__name__}; expected a datasets.Dataset: {advice}.")
    for column in dict.fromkeys(("id", "question", *(COLUMNS[feature] for feature in features))):
        if column not in examples.column_names:
            raise ValueError(
                f"{name} has no column {column!r}, only {', '.join(examples.column_names)}; this selector reads "
                f"{', '.join(features) or 'ids'}. Rename the column that holds it: `{name}.rename_column(old, new)`."
            )
    examples = examples.with_format(None)
    for row, example_id in enumerate(examples["id"]):
        if not isinstance(example_id, str) or not example_id:
            raise ValueError(
                f"The id of row {row} of {name} is {example_id!r}; expected a string that is not empty: "
                f"`{name}.cast_column('id', Value('string'))` converts numbers."
            )
    return examples


def make_query(question: Any, image: Any, example_id: Any) -> dict[str, Any]:
    """
    A query as an example, with decoded pixels. Without an id it gets a hash of question and pixels, so that the same
    query has the same candidates. Raises `ValueError` for an argument of another type or an image that can't be read.
    """
    if not isinstance(question, str):
        raise ValueError(f"question is {question!r}; expected a string.")
    if example_id is not None and (not isinstance(example_id, str) or not example_id):
        raise ValueError(f"id is {example_id!r}; expected a string that is not empty, or none.")
    decoded = pixels = None
    if image is not None:
        try:
            decoded = decode_image(image_source(image))
        except ValueError as error:
            raise ValueError(f"The query's image {error}") from error
        pixels = [decoded.mode, decoded.size, hashlib.sha256(decoded.tobytes()).hexdigest()]
    return {
        "id": f"query-{json_hash([question, pixels])}" if example_id is None else example_id,
        "image": image if isinstance(image, Image.Image) else decoded,
        "question": question,
        "answer": "",
        "answers": [],
    }


def check_candidates(
    candidate_ids: Any, query_ids: Sequence[str], pool_positions: Mapping[str, int]
) -> list[list[str]]:
    """The candidates that a user gave, as lists of different ids of the pool; raises `ValueError` for others."""
    lists = list(candidate_ids) if isinstance(candidate_ids, Sequence) else None
    if lists is None or any(isinstance(ids, str) or not isinstance(ids, Sequence) for ids in lists):
        raise ValueError(f"candidate_ids is {str(candidate_ids)[:100]}; expected a list of ids for each query.")
    if len(lists) != len(query_ids):
        raise ValueError(f"Got the candidates of {len(lists)} queries for {len(query_ids)} queries.")
    for query_id, ids in zip(query_ids, lists, strict=True):
        unknown = [name for name in ids if name not in pool_positions]
        if unknown:
            raise ValueError(
                f"The candidate {unknown[0]!r} of the query {query_id!r} is not in the pool of {len(pool_positions)} "
                f"examples ({len(unknown)} are not); name ids of the pool that the selector was given."
            )
        refuse_repeated(ids, f"The query {query_id!r}")
    return [list(ids) for ids in lists]
