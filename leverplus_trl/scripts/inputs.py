# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What stages read of earlier stages: splits of tables, the beams of queries, and the encoder of a selector."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from datasets import Dataset

from ..provenance import encoder_commit
from ..retrieval import ExampleEmbeddings, embed_examples
from ..rollouts.rollout_arguments import RolloutArguments
from ..rollouts.rollout_sources import SearchedBeams
from ..schema import BEAMS, LEDGER
from ..selectors import BaseSelectorConfig
from ..selectors.encoder_lora import copied_encoder
from ..tables import holding_split, read_table, splits_of, table_split
from ..tasks import Overlap
from .arguments import GRPOArguments, SFTArguments


class NamedEncoder(NamedTuple):
    """An encoder and how it embeds."""

    name: str
    revision: str | None
    commit: str  #: what pins its weights
    batch_size: int
    embeddings_dir: str | None
    copied: bool = False  #: whether it is a copy in the folder of a selector

    def embed(self, examples: Dataset, modalities: Collection[str]) -> ExampleEmbeddings:
        where = {"batch_size": self.batch_size, "embeddings_dir": self.embeddings_dir}
        return embed_examples(examples, self.name, self.revision, modalities, **where)


def find_encoder(
    args: SFTArguments | GRPOArguments | RolloutArguments,
    config: BaseSelectorConfig | None,
    search: Mapping,
    batch_size: int,
) -> NamedEncoder | None:
    """The encoder of the recipe, which also replaces that of the selector's config, else that of the selector (the
    copy in its folder, if there is one), else that of the search; `None` if there is none. Raises `ValueError` if it
    does not exist, or if the selector was trained with another."""
    copied = None
    if args.encoder:
        name, revision = args.encoder, args.encoder_revision
    elif config is not None and config.encoder:
        copied = copied_encoder(args.selector, getattr(args, "selector_revision", None))
        name, revision = (copied, None) if copied else (config.encoder, config.encoder_revision)
    else:
        name, revision = search.get("encoder"), search.get("encoder_revision")
    if name is None:
        return None
    commit = encoder_commit(name, revision) if config is None else config.check_encoder(name, revision)
    if args.encoder and config is not None:
        config.encoder, config.encoder_revision = name, revision
    return NamedEncoder(name, revision, commit, batch_size, args.embeddings_dir, copied is not None)


def stored_split(
    key: str, split: str, table: str, path_or_id: str, revision: str | None = None, optional: bool = False
) -> str:
    """The split of a table with the queries of `split`, a split or slice that the recipe key `key` names; raises
    `ValueError` if there is none."""
    known = splits_of(path_or_id, table, revision)
    stored = holding_split(split, known)
    if stored not in known:
        raise ValueError(
            f"{key} names {split!r}, but the {table} {path_or_id!r} have the splits {', '.join(known)}. Make that "
            f"split with the stage `{table}` (`query_splits`), or name another{' (null for none)' * optional}."
        )
    return stored


def check_candidates(
    candidate_ids: Iterable[Sequence[str]], pool: Dataset, table: str, path_or_id: str, recipe: Mapping
) -> None:
    """Raises `ValueError` if candidates in a table, made with `recipe`, are not in the pool."""
    missing = sorted({candidate for ids in candidate_ids for candidate in ids} - set(pool["id"]))
    if missing:
        raise ValueError(
            f"The candidate {missing[0]!r} of the {table} {path_or_id!r} is not in the pool of {len(pool)} examples; "
            f"{len(missing)} are missing. Name the dataset and pool_split that the {table} were made with: "
            f"{recipe.get('dataset')!r}, {recipe.get('pool_split')!r}."
        )


def read_searched(
    beams: str,
    key: str,
    splits: Sequence[str],
    queries: Mapping[str, Dataset],
    pool: Dataset,
    recipe: Mapping,
    overlaps: Mapping[str, Overlap],
) -> dict[str, SearchedBeams]:
    """Beams and ledger of the queries, by split; `beams` were made with `recipe`, and `key` names the `splits`. Raises
    `ValueError` for a query without beams, and for candidates that are not in the pool or that `overlaps` exclude."""
    searched = {}
    for name in splits:
        split, stored = table_split(name), stored_split(key, name, "beams", beams)
        tables = (read_table(beams, config, stored, kind) for config, kind in (("beams", BEAMS), ("ledger", LEDGER)))
        searched[split] = SearchedBeams(*tables, recipe["num_shots"], recipe["score"])
        query_ids = queries[split]["id"]
        absent = [query_id for query_id in query_ids if query_id not in searched[split]]
        if absent:
            leave_out = ", or leave `beams` out (candidates are then sampled, without an oracle)"
            raise ValueError(
                f"{beams!r} holds no beams for {len(absent)} of {len(query_ids)} queries of {split!r}, e.g. "
                f"{absent[0]!r}. Search them, or lower `num_queries`{leave_out * (key == 'eval_split')}."
            )
        candidate_ids = {query_id: searched[split].candidate_ids(query_id) for query_id in query_ids}
        overlaps[split].check(candidate_ids, beams)
        check_candidates(candidate_ids.values(), pool, "beams", beams, recipe)
    return searched
