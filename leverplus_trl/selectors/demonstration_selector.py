# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Choosing demonstrations in one line: from a question and an image to examples of a pool, in the order of the prompt.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from huggingface_hub import CommitInfo
from transformers import AutoModel, AutoProcessor
from transformers.utils import cached_file

from ..hub import PLACEHOLDER, push_selector
from ..log import doing
from ..retrieval.candidate_sampler import CandidateSampler
from ..retrieval.embeddings import MODALITIES, Encoder, ExampleEmbeddings, embed_examples
from ..retrieval.sampler_arguments import check_sampler, sampler_modalities
from ..weights import align
from .base_selector import BaseSelectorModel
from .base_selector_config import read_selector_config, selector_card
from .encoder_lora import SelectorEncoder, copied_encoder, copy_encoder
from .processing_selector import SelectorProcessor
from .selection_inputs import check_candidates, check_examples, check_trained_encoder, make_query


@dataclass
class DemonstrationSelection:
    """
    What was chosen for one query.

    Args:
        query (`dict`):
            The query as an example.
        demonstration_ids (`list[str]`):
            Ids of the chosen examples in prompt order: the last one stands next to the query.
        demonstrations (`list[dict]`):
            Their rows of the pool, in the same order.
        candidate_ids (`list[str]`):
            What they were chosen from.
        demonstration_positions (`list[int]`):
            Where they stand among the candidates, in selection order. A selector with `stop` may choose fewer than
            were asked for, or none.
        logprob (`float`):
            Log-probability of this sequence under the selector.
    """

    query: dict[str, Any]
    demonstration_ids: list[str]
    demonstrations: list[dict[str, Any]]
    candidate_ids: list[str]
    demonstration_positions: list[int]
    logprob: float

    @property
    def request(self) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
        """What a VLM is asked: `Request(*selection.request)`."""
        return tuple(self.demonstrations), self.query


class DemonstrationSelector:
    """
    A trained selector together with a pool of examples.

    Args:
        model ([`BaseSelectorModel`]):
            The selector.
        processor ([`SelectorProcessor`]):
            Puts its inputs together.
        pool (`Dataset`):
            Examples to choose from, with the columns `id`, `question`, and `image` if one is read.
        encoder (`str`, *optional*, defaults to the one in the config):
            Where the frozen encoder lies, if not where it lay in training. (Only samplers do without its adapters.)
        encoder_revision (`str`, *optional*, defaults to the one in the config):
            Its revision.
        sampler, num_candidates, sampler_seed (*optional*, default to those in the config):
            How candidates are drawn.
        batch_size (`int`, *optional*, defaults to 64):
            Examples embedded, and queries answered, at once.
        embeddings_dir (`str`, *optional*):
            Where embeddings are kept, see [`embed_examples`].

    Raises:
        `ValueError`: no encoder is named anywhere, the pool does not have what the selector reads, or the selector
            knows the examples of another pool by heart (v0).

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
                "The selector's config names no encoder; say which one embedded its training data: encoder=..."
            )
        # A revision belongs to the model it was given for.
        self.encoder_revision = encoder_revision if encoder or encoder_revision else config.encoder_revision
        self.sampler = sampler or config.sampler
        self.num_candidates = config.num_candidates if num_candidates is None else num_candidates
        check_sampler(self.sampler, self.num_candidates)
        self.sampler_seed = config.sampler_seed if sampler_seed is None else sampler_seed
        self.batch_size, self.embeddings_dir = batch_size, embeddings_dir
        config.check_pool(pool)
        check_trained_encoder(config, self.encoder, self.encoder_revision, asked_for=encoder is not None)
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
        Loads a selector from a folder or from the hub.

        Args:
            name_or_path (`str`):
                Folder or hub id of a selector.
            pool (`Dataset`):
                Examples to choose from.
            revision (`str`, *optional*):
                Hub revision of the selector.
            device (`str`, *optional*, defaults to `"cuda"` where there is one, else `"cpu"`):
                Where it runs.
            **kwargs:
                What else [`DemonstrationSelector`] takes.

        Raises:
            `ValueError`: no selector, or weights that are pickled, damaged or not finite.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        name_or_path = str(name_or_path)
        config = read_selector_config(name_or_path, revision)
        kwargs["encoder"] = encoder = kwargs.get("encoder") or copied_encoder(name_or_path, revision)
        if encoder is not None and config.lora is not None:  # the model brings it along
            config.encoder, config.encoder_revision = encoder, kwargs.get("encoder_revision")
        model = align(AutoModel.from_pretrained(name_or_path, config=config, revision=revision)).to(device)
        processor = AutoProcessor.from_pretrained(name_or_path, revision=revision)
        found = (processor.query_features, processor.candidate_features)
        if found != (config.query_features, config.candidate_features):
            raise ValueError(
                f"The selector {name_or_path!r} was trained on {config.query_features} of a query and "
                f"{config.candidate_features} of a candidate, but its processor_config.json names {found[0]} and "
                f"{found[1]}, or is missing; take it from the folder of the training."
            )
        return cls(model, processor, pool, **kwargs)

    def push_to_hub(self, repo_id: str, **kwargs) -> CommitInfo:
        """
        Pushes the selector to the hub, in one commit: model, processor and card, and the encoder if it lies in the
        selector's folder. Else pool and encoder stay where they are.

        Args:
            repo_id (`str`):
                Model repository, `user/name`; created if there is none.
            **kwargs:
                `private`, `token`, `revision` and `message` of [`~leverplus_trl.hub.push_files`].

        Raises:
            `ValueError`: the repository can't be written to.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.model.save_pretrained(folder)
            self.processor.save_pretrained(folder)
            origin = self.model.name_or_path
            if origin and self.encoder == copied_encoder(origin, getattr(self.model.config, "_commit_hash", None)):
                copy_encoder(self.encoder, None, Path(folder))
            (Path(folder) / "README.md").write_text(self._card(), encoding="utf-8")
            return push_selector(Path(folder), repo_id, **kwargs)

    def _card(self) -> str:
        """The card it came with, or else one of what its config knows."""
        origin = self.model.name_or_path  # empty for a model that was not loaded
        commit = getattr(self.model.config, "_commit_hash", None)
        where = {"revision": commit, "_raise_exceptions_for_missing_entries": False}
        card = origin and cached_file(origin, "README.md", **where)
        if not card:
            return selector_card(self.model.config)
        return Path(card).read_text(encoding="utf-8").replace(f'"{origin}"', f'"{PLACEHOLDER}"')

    def select(
        self, question: str, image: Any = None, num_shots: int = 2, id: str | None = None, **kwargs
    ) -> DemonstrationSelection:
        """
        Chooses demonstrations for one query.

        Args:
            question (`str`):
                What is asked.
            image (`Image.Image`, `str`, `Path`, `bytes`, `np.ndarray` or `dict`, *optional*):
                The picture it is asked about: a PIL image, a file or its bytes, a uint8 array `[H, W]`, `[H, W, 3]`
                or `[H, W, 4]`, or `{"bytes", "path"}` as `datasets` stores it.
            num_shots (`int`, *optional*, defaults to 2):
                Number of demonstrations.
            id (`str`, *optional*, defaults to a hash of question and image):
                The query's id: the seed of its random candidates, and what keeps it from being its own demonstration.
            **kwargs:
                What else [`~DemonstrationSelector.select_batch`] takes; `candidate_ids` may be the list of this query.

        Returns:
            [`DemonstrationSelection`]

        Raises:
            `ValueError`: an argument of another type, an image that can't be decoded, more shots than candidates, or
                candidates that are not in the pool or come twice.
        """
        query = make_query(question, image, id)
        candidate_ids = kwargs.get("candidate_ids")
        if isinstance(candidate_ids, (list, tuple)) and all(isinstance(one, str) for one in candidate_ids):
            kwargs["candidate_ids"] = [candidate_ids]
        embeddings = self._embed_query(query, self._sampler_name(kwargs))
        return self._select([query], *embeddings, num_shots, **kwargs)[0]

    def select_batch(self, queries: Dataset, num_shots: int = 2, **kwargs) -> list[DemonstrationSelection]:
        """
        Chooses demonstrations for every row of a dataset.

        Args:
            queries (`Dataset`):
                Examples to ask, with the columns `id`, `question`, and `image` if one is read.
            num_shots (`int`, *optional*, defaults to 2):
                Number of demonstrations.
            candidate_ids (`list[list[str]]`, *optional*):
                Candidates of each query; drawn by the sampler if not given.
            sampler, num_candidates, sampler_seed (*optional*):
                How candidates are drawn this time.
            strategy, num_beams, temperature, generator (*optional*):
                See [`BaseSelectorModel.select`].

        Returns:
            `list[DemonstrationSelection]`, in the order of the queries.

        Raises:
            `ValueError`: no `Dataset`, a missing column, an image that can't be decoded, more shots than candidates,
                or candidates that are not in the pool or come twice.
        """
        features = self.model.config.query_features
        queries = check_examples(queries, features, "queries")
        if not len(queries):
            return []
        embeddings = self._embed(queries, features, self._sampler_name(kwargs))
        return self._select(queries, *embeddings, num_shots, **kwargs)

    def embed_queries(self, queries: Dataset) -> ExampleEmbeddings:
        """The embeddings of queries that this selector reads."""
        return self._embed(queries, self.model.config.query_features, "random")[0]

    def _select(
        self,
        queries: Dataset | list[dict],
        embeddings: ExampleEmbeddings,
        compared: ExampleEmbeddings,
        num_shots: int,
        candidate_ids: Sequence[Sequence[str]] | None = None,
        sampler: str | None = None,
        num_candidates: int | None = None,
        sampler_seed: int | None = None,
        **strategy,
    ) -> list[DemonstrationSelection]:
        if candidate_ids is None:
            arguments = (
                sampler or self.sampler,
                self.num_candidates if num_candidates is None else num_candidates,
                self.sampler_seed if sampler_seed is None else sampler_seed,
            )
            candidate_ids = self._sampler_of(*arguments).sample(embeddings.ids, compared)
        else:
            candidate_ids = check_candidates(candidate_ids, embeddings.ids, self.pool_embeddings.positions)
        selections = []
        for start in range(0, len(queries), self.batch_size):
            candidates = candidate_ids[start : start + self.batch_size]
            ids = embeddings.ids[start : start + self.batch_size]
            inputs = self.processor(embeddings, ids, self.pool_embeddings, candidates).to(self.model.device)
            found = self.model.select(**inputs, num_shots=num_shots, **strategy)
            for row, (positions, logprob) in enumerate(
                zip(found.demonstration_positions.tolist(), found.logprobs.tolist(), strict=True)
            ):
                selections.append(self._selection(queries[start + row], candidates[row], positions, logprob))
        return selections

    def _selection(self, query: dict, candidates: list[str], positions: list[int], logprob: float):
        positions = [position for position in positions if position >= 0]
        chosen = [candidates[position] for position in positions]
        if self.model.config.insertion == "left":  # the first choice stands next to the query
            chosen.reverse()
        demonstrations = [self.pool[int(row)] for row in self.pool_embeddings.rows(chosen)]
        return DemonstrationSelection(query, chosen, demonstrations, candidates, positions, logprob)

    def _sampler_name(self, arguments: dict[str, Any]) -> str:
        """The sampler that a call asks for; raises `ValueError` if there is none of that name."""
        name = arguments.get("sampler") or self.sampler
        check_sampler(name, self.num_candidates)
        return name

    def _sampler_of(self, *arguments) -> CandidateSampler:
        if arguments not in self._samplers:
            self._samplers[arguments] = CandidateSampler(self._compared_pool, *arguments)
        return self._samplers[arguments]

    def _embed(
        self, examples: Dataset, features: Sequence[str], sampler: str
    ) -> tuple[ExampleEmbeddings, ExampleEmbeddings]:
        """What the selector reads, and what the sampler compares; of an encoder without adapters that is the same."""

        def embed(encoder: str | Encoder, needed: set[str]) -> ExampleEmbeddings:
            if not needed:  # v0 may know the pool by its names alone
                return ExampleEmbeddings(list(examples["id"]))
            return embed_examples(
                examples,
                encoder,
                self.encoder_revision,
                modalities=tuple(name for name in MODALITIES if name in needed),
                batch_size=self.batch_size,
                embeddings_dir=self.embeddings_dir,
            )

        own, compared = set(features), set(sampler_modalities(sampler))
        if self._adapted is None:
            return (embed(self.encoder, own | compared),) * 2
        return embed(self._adapted, own), embed(self.encoder, compared)

    @cached_property
    def _query_encoder(self) -> Encoder:
        return Encoder(self.encoder, self.encoder_revision)

    def _embed_query(self, query: dict, sampler: str) -> tuple[ExampleEmbeddings, ExampleEmbeddings]:
        """The same of a single query, which is not worth a table on disk."""

        def embed(encoder: Encoder, needed: set[str]) -> ExampleEmbeddings:
            image = text = None
            if "image" in needed:
                if query["image"] is None:
                    raise ValueError("This selector looks at the query's image: select(image=..., question=...).")
                image = encoder.encode_images([query["image"]])  # [1, D_image]
            if "text" in needed:
                text = encoder.encode_texts([query["question"]])  # [1, D_text]
            return ExampleEmbeddings([query["id"]], image, text)

        own, compared = set(self.model.config.query_features), set(sampler_modalities(sampler))
        if self._adapted is None:
            return (embed(self._query_encoder, own | compared),) * 2
        return embed(self._adapted, own), embed(self._query_encoder, compared)
