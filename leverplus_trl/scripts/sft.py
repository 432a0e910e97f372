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
from functools import partial

from datasets import Dataset
from transformers import AutoConfig, AutoModel, set_seed

from ..evaluation.methods import method_label
from ..provenance import model_revision
from ..retrieval import ExampleEmbeddings, embed_examples, usable_modalities
from ..schema import BEAMS, LEDGER
from ..selectors import (
    ENCODINGS,
    PRESETS,
    BaseSelectorConfig,
    BaseSelectorModel,
    SelectorProcessor,
)
from ..selectors.encoder_lora import COPY, copied_encoder
from ..stage_arguments import StageArguments
from ..stage_process import run_stage_here
from ..tasks import DataArguments
from ..trainer import (
    PixelDataset,
    SelectorDataset,
    SelectorSFTConfig,
    SelectorSFTTrainer,
    scored_prefixes,
    with_pixels,
)
from ..trainer.model_card import baseline_regrets, sft_verdict
from . import parsers
from .arguments import CONFIG_FIELDS, LORA_FIELDS, SFTArguments
from .training import TrainingStage


logger = logging.getLogger("leverplus_trl.scripts.sft")  # `__name__` is "__main__" where a launcher runs this

#: What a selector must do as the search did.
FROM_THE_BEAMS = ("sampler", "num_candidates", "sampler_seed", "insertion", "score", "num_shots")


make_parser = partial(parsers.make_parser, "sft")


def main(
    stage_args: StageArguments, data_args: DataArguments, sft_args: SFTArguments, training_args: SelectorSFTConfig
) -> None:
    stage = TrainingStage("sft", "beams", BEAMS, stage_args, data_args, sft_args, training_args)
    stage.load_data()
    searched = stage.made_by["recipe"]
    encoder, encoder_revision = encoder_of(sft_args, searched)
    fill_features(sft_args, usable_modalities(encoder, encoder_revision, stage.pool, *stage.queries.values()))
    sizes = ", ".join(f"{len(table)} queries of {split}" for split, table in stage.rows.items())
    logger.info("%s; a pool of %d.", sizes, len(stage.pool))
    if stage_args.dry_run:
        return
    commit = model_revision(encoder, encoder_revision)
    run = stage.claim({"encoder_commit": commit})
    if run is None:
        return
    config = make_config(
        sft_args,
        **{name: searched[name] for name in FROM_THE_BEAMS},
        encoder=encoder,
        encoder_revision=encoder_revision,
        encoder_commit=commit,
        trained_on={"beams": sft_args.beams, **stage.made_by},
    )
    config.remember_pool(stage.pool)
    if sft_args.copy_encoder:
        stage.copy_encoder(encoder, encoder_revision, run)
        config.encoder_commit = model_revision(str(run.path / COPY))
    model, datasets, regrets = build(stage, config)
    regrets = {method_label(name): regret for name, regret in regrets.items()}
    stage.train(
        SelectorSFTTrainer, model, datasets, lambda metrics, *held_out: sft_verdict(metrics, regrets, *held_out)
    )


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
    # `encoder` and its revision are arguments here as well; what they are in the end is in `values`.
    own = {name: value for name in CONFIG_FIELDS[model_type] if (value := getattr(sft_args, name)) is not None}
    if sft_args.encoding is not None:
        own["query_features"], own["candidate_features"] = ENCODINGS[sft_args.encoding]
    lora = {LORA_FIELDS[name]: value for name in LORA_FIELDS if (value := getattr(sft_args, name)) is not None}
    if lora:
        own["lora"] = preset["lora"] | lora
    return AutoConfig.for_model(model_type, **(preset | own | values))


def build(
    stage: TrainingStage, config: BaseSelectorConfig
) -> tuple[BaseSelectorModel, dict[str, SelectorDataset | PixelDataset], dict[str, float]]:
    """An untrained selector, its data by split, and the regrets of baselines on the evaluation split; fills the widths
    of the embeddings into the config."""
    sft_args, training_args, pool, queries = stage.own_args, stage.training_args, stage.pool, stage.queries

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
    for split, table in stage.rows.items():
        ledger = stage.read("ledger", stage.splits[split].stored, LEDGER)
        scored = scored_prefixes(table, ledger, config.insertion, config.score, config.stop)
        query_embeddings = embed(queries[split], config.query_features)
        ids = table["query_id"], table["candidate_ids"]
        datasets[split] = SelectorDataset(*ids, query_embeddings, pool_embeddings, processor, scored)
    regrets = baseline_regrets(datasets[sft_args.eval_split]) if sft_args.eval_split else {}
    set_seed(training_args.seed)
    model = AutoModel.from_config(config)
    features = (config.query_features, config.candidate_features)
    model.fit_inputs(*(processor.fuse(pool_embeddings, names) for names in features))
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
