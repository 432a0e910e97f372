# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Stage `sft`: a selector learns what a frozen VLM prefers, from the beams and the ledger.

```bash
leverplus sft --config recipes/demo/20_sft.yaml
```
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from datasets import Dataset
from transformers import set_seed

from ..evaluation.methods import method_label
from ..hub import check_run_writable, push_run
from ..launch import start_stage
from ..provenance import dataset_fingerprint, model_revision
from ..retrieval import ExampleEmbeddings, embed_examples, usable_modalities
from ..run_folder import RunFolder
from ..schema import BEAMS, LEDGER
from ..selectors import (
    ENCODINGS,
    PRESETS,
    BaseSelectorConfig,
    BaseSelectorModel,
    GPT2SelectorConfig,
    GPT2SelectorModel,
    PointerSelectorConfig,
    PointerSelectorModel,
    SelectorProcessor,
)
from ..selectors.encoder_lora import COPY, copied_encoder, copy_encoder
from ..stage_process import run_stage_here
from ..tables import read_table, table_provenance
from ..tasks import DataArguments, load_examples, task_of_recipe
from ..trainer import (
    PixelDataset,
    SelectorDataset,
    SelectorSFTConfig,
    SelectorSFTTrainer,
    scored_prefixes,
    with_pixels,
)
from ..trainer.saving import COMPLETE
from ..trainer.verdicts import NOT_MEASURED, baseline_regrets, sft_verdict
from . import parsers
from .sft_arguments import CONFIG_FIELDS, LORA_FIELDS, SFTArguments
from .stage_arguments import StageArguments
from .training import (
    TableSplit,
    check_pool,
    check_queries,
    find_splits,
    plain_arguments,
    step_size,
    train,
    train_without_evaluation,
)


logger = logging.getLogger("leverplus_trl.scripts.sft")  # `__name__` is "__main__" where a launcher runs this

#: What a selector must do as the search did.
FROM_THE_BEAMS = ("sampler", "num_candidates", "sampler_seed", "insertion", "score", "num_shots")


make_parser = partial(parsers.make_parser, "sft")


def main(
    stage_args: StageArguments, data_args: DataArguments, sft_args: SFTArguments, training_args: SelectorSFTConfig
) -> None:
    state = start_stage(stage_args, "sft")
    made_by = table_provenance(sft_args.beams, sft_args.beams_revision)
    splits = {"train_split": sft_args.train_split, "eval_split": sft_args.eval_split}
    found = find_splits("beams", sft_args.beams, sft_args.beams_revision, splits)
    task = task_of_recipe(made_by["recipe"])
    pool = load_examples(data_args, data_args.pool_split, task)
    beams = {
        split: read_table(sft_args.beams, "beams", where.rows, BEAMS, sft_args.beams_revision)
        for split, where in found.items()
    }
    check_pool("beams", beams, pool, data_args.pool_split, made_by)
    queries = {split: load_examples(data_args, where.examples, task) for split, where in found.items()}
    check_queries("beams", beams, queries, found, made_by)
    encoder, encoder_revision = encoder_of(sft_args, made_by["recipe"])
    fill_features(sft_args, usable_modalities(encoder, encoder_revision, pool, *queries.values()))
    sizes = ", ".join(f"{len(table)} queries of {split}" for split, table in beams.items())
    logger.info("%s; a pool of %d.", sizes, len(pool))
    if stage_args.dry_run:
        return
    if training_args.push_to_hub and state.is_main_process:
        check_run_writable(training_args)
    if sft_args.eval_split is None:
        train_without_evaluation(training_args)
    recipe = asdict(stage_args) | asdict(data_args) | asdict(sft_args) | plain_arguments(training_args)
    facts = {
        "beams_fingerprint": {split: dataset_fingerprint(table) for split, table in beams.items()},
        "pool_fingerprint": dataset_fingerprint(pool),
        "query_fingerprints": {split: dataset_fingerprint(examples) for split, examples in queries.items()},
        "encoder_commit": model_revision(encoder, encoder_revision),
        "queries_per_step": step_size(training_args),
    }
    run = RunFolder(training_args.output_dir, "sft", recipe, facts)
    if run.is_complete(COMPLETE):
        if training_args.push_to_hub and state.is_main_process:
            push_run(training_args)
        return
    config = make_config(
        sft_args,
        **{name: made_by["recipe"][name] for name in FROM_THE_BEAMS},
        encoder=encoder,
        encoder_revision=encoder_revision,
        encoder_commit=facts["encoder_commit"],
        trained_on={"beams": sft_args.beams, **made_by},
    )
    if isinstance(config, GPT2SelectorConfig):
        config.pool_size, config.pool_fingerprint = len(pool), facts["pool_fingerprint"]
    if sft_args.copy_encoder:
        if state.is_main_process:
            copy_encoder(encoder, encoder_revision, run.path)
        state.wait_for_everyone()
        config.encoder_commit = model_revision(str(run.path / COPY))
    model, datasets, regrets = build(config, beams, pool, queries, found, sft_args, training_args)
    metrics = train(SelectorSFTTrainer, model, training_args, datasets, sft_args.train_split, sft_args.eval_split)
    logger.info("The selector is in %s.", run.path)
    if sft_args.eval_split:
        regrets = {method_label(name): regret for name, regret in regrets.items()}
        logger.info("%s", sft_verdict(metrics, regrets, sft_args.eval_split, len(datasets[sft_args.eval_split])))
    else:
        logger.info("%s", NOT_MEASURED)
    state.wait_for_everyone()


def fill_features(sft_args: SFTArguments, usable: Sequence[str]) -> None:
    """Sets the features that the recipe leaves open to those of the preset that every example has."""
    config = make_config(sft_args)
    for name in ("query_features", "candidate_features"):
        features = [feature for feature in getattr(config, name) if feature in usable]
        if sft_args.encoding is None and getattr(sft_args, name) is None and features != getattr(config, name):
            setattr(sft_args, name, features)
            logger.info("%s: %s, since not every example has an embedding of its image.", name, ", ".join(features))


def make_config(sft_args: SFTArguments, **values) -> BaseSelectorConfig:
    """The selector's config: the preset, what is set beside it, and `values`."""
    model_type, preset = PRESETS[sft_args.selector]
    config_class = {kind.model_type: kind for kind in (PointerSelectorConfig, GPT2SelectorConfig)}[model_type]
    # `encoder` and its revision are arguments here as well; what they are in the end is in `values`.
    own = {name: value for name in CONFIG_FIELDS[model_type] if (value := getattr(sft_args, name)) is not None}
    if sft_args.encoding is not None:
        own["query_features"], own["candidate_features"] = ENCODINGS[sft_args.encoding]
    lora = {LORA_FIELDS[name]: value for name in LORA_FIELDS if (value := getattr(sft_args, name)) is not None}
    if lora:
        own["lora"] = preset["lora"] | lora
    return config_class(**(preset | own | values))


def build(
    config: BaseSelectorConfig,
    beams: dict[str, Dataset],
    pool: Dataset,
    queries: dict[str, Dataset],
    splits: dict[str, TableSplit],
    sft_args: SFTArguments,
    training_args: SelectorSFTConfig,
) -> tuple[BaseSelectorModel, dict[str, SelectorDataset | PixelDataset], dict[str, float]]:
    """An untrained selector, its data by split, and the regrets of baselines on the evaluation split; fills the widths
    of the embeddings into the config."""

    def embed(examples: Dataset, features: Sequence[str]) -> ExampleEmbeddings:
        size = config.trained_on["recipe"]["encoder_batch_size"]
        where = {"batch_size": size, "embeddings_dir": sft_args.embeddings_dir}
        return embed_examples(examples, config.encoder, config.encoder_revision, features, **where)

    pool_embeddings = embed(pool, config.features)  # of query features, too: their statistics are those of the pool
    for name in config.features:
        width = getattr(pool_embeddings, name).shape[1]
        setattr(config, "image_embed_dim" if name == "image" else "text_embed_dim", width)
    processor = SelectorProcessor(config.query_features, config.candidate_features)
    datasets = {}
    for split, table in beams.items():
        ledger = read_table(sft_args.beams, "ledger", splits[split].stored, LEDGER, sft_args.beams_revision)
        scored = scored_prefixes(table, ledger, config.insertion, config.score, config.stop)
        query_embeddings = embed(queries[split], config.query_features)
        ids = table["query_id"], table["candidate_ids"]
        datasets[split] = SelectorDataset(*ids, query_embeddings, pool_embeddings, processor, scored)
    regrets = baseline_regrets(datasets[sft_args.eval_split]) if sft_args.eval_split else {}
    set_seed(training_args.seed)
    model = (GPT2SelectorModel if isinstance(config, GPT2SelectorConfig) else PointerSelectorModel)(config)
    features = (config.query_features, config.candidate_features)
    model.fit_inputs(*(processor.fuse(pool_embeddings, names) for names in features))
    if getattr(config, "lora", None) is not None:
        model.load_encoder(copied_encoder(training_args.output_dir))
    return model, with_pixels(model, datasets, queries, pool, sft_args.train_split, sft_args.cache_mb), regrets


def encoder_of(sft_args: SFTArguments, recipe: dict) -> tuple[str, str | None]:
    """The encoder and its revision: as the recipe says, else as the beams' recipe said."""
    if sft_args.encoder:
        return sft_args.encoder, sft_args.encoder_revision
    if recipe["encoder"]:
        return recipe["encoder"], recipe["encoder_revision"]
    raise ValueError(
        f"The beams {sft_args.beams!r} were made without an encoder (sampler {recipe['sampler']!r}), but a selector "
        "reads embeddings: set `encoder` to a CLIP model, or to a sentence encoder with `query_features: [text]` and "
        "`candidate_features: [text]`."
    )


if __name__ == "__main__":
    sys.exit(run_stage_here("sft", sys.argv[1:]))
