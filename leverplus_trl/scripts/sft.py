# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Stage `sft`: a selector learns what a frozen VLM prefers, from the beams and the ledger."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial

from transformers import AutoConfig, AutoModel, set_seed

from ..evaluation.methods import method_label
from ..provenance import model_revision
from ..retrieval import usable_modalities
from ..schema import BEAMS, LEDGER
from ..selectors import ENCODINGS, PRESETS, BaseSelectorConfig, SelectorProcessor
from ..selectors.encoder_lora import COPY, copied_encoder
from ..stage_arguments import StageArguments
from ..tasks import DataArguments
from ..trainer import SelectorDataset, SelectorSFTConfig, SelectorSFTTrainer, scored_prefixes, with_pixels
from ..trainer.model_card import baseline_regrets, sft_verdict
from . import parsers
from .arguments import CONFIG_FIELDS, LORA_FIELDS, SFTArguments
from .inputs import find_encoder
from .training import TrainingStage


logger = logging.getLogger(__name__)

#: What a selector must do as the search did.
FROM_THE_BEAMS = ("sampler", "num_candidates", "sampler_seed", "insertion", "score", "num_shots")

make_parser = partial(parsers.make_parser, "sft")


def main(
    stage_args: StageArguments, data_args: DataArguments, sft_args: SFTArguments, training_args: SelectorSFTConfig
) -> None:
    stage = TrainingStage("sft", "beams", BEAMS, stage_args, data_args, sft_args, training_args)
    stage.load_data()
    searched = stage.made_by["recipe"]
    encoder = find_encoder(sft_args, None, searched, searched["encoder_batch_size"])
    if encoder is None:
        raise ValueError(
            f"The beams {sft_args.beams!r} were made without an encoder (sampler {searched['sampler']!r}), but a "
            "selector reads embeddings: set `encoder` to a CLIP model, or to a sentence encoder with "
            "`query_features: [text]` and `candidate_features: [text]`."
        )
    name, revision = encoder.name, encoder.revision
    fill_features(sft_args, usable_modalities(name, revision, stage.pool, *stage.queries.values()))
    sizes = ", ".join(f"{len(table)} queries of {split}" for split, table in stage.rows.items())
    logger.info("%s; a pool of %d.", sizes, len(stage.pool))
    if stage_args.dry_run:
        return
    run = stage.claim({"encoder_commit": encoder.commit})
    if run is None:
        return
    config = make_config(
        sft_args,
        **{key: searched[key] for key in FROM_THE_BEAMS},
        encoder=name,
        encoder_revision=revision,
        encoder_commit=encoder.commit,
        trained_on={"beams": sft_args.beams, **stage.made_by},
    )
    config.remember_pool(stage.pool)
    if sft_args.copy_encoder:
        stage.copy_encoder(name, revision, run)
        config.encoder_commit = model_revision(str(run.path / COPY))
    processor = SelectorProcessor(config.query_features, config.candidate_features)
    scored = {}
    for split, rows in stage.rows.items():
        ledger = stage.read("ledger", stage.splits[split].stored, LEDGER)
        scored[split] = scored_prefixes(rows, ledger, config.insertion, config.score, config.stop)
    datasets, pool = stage.make_datasets(SelectorDataset, encoder, config, processor, scored)
    regrets = baseline_regrets(datasets[sft_args.eval_split]) if sft_args.eval_split else {}
    regrets = {method_label(method): regret for method, regret in regrets.items()}
    for feature in config.features:
        setattr(config, f"{'image' if feature == 'image' else 'text'}_embed_dim", getattr(pool, feature).shape[1])
    set_seed(training_args.seed)
    model = AutoModel.from_config(config)
    model.fit_inputs(*(processor.fuse(pool, names) for names in (config.query_features, config.candidate_features)))
    model.load_encoder(copied_encoder(training_args.output_dir))
    datasets = with_pixels(model, datasets, stage.queries, stage.pool, sft_args.train_split, sft_args.cache_mb)

    def verdict(metrics: Mapping[str, float], split: str, num_queries: int) -> str:
        return sft_verdict(metrics, regrets, split, num_queries)

    stage.train(SelectorSFTTrainer, model, datasets, verdict)


def fill_features(sft_args: SFTArguments, usable: Sequence[str]) -> None:
    """Sets the features that the recipe leaves open to those of the preset that every example has."""
    config = make_config(sft_args)
    for name in ("query_features", "candidate_features"):
        features = [feature for feature in getattr(config, name) if feature in usable]
        if sft_args.encoding is None and getattr(sft_args, name) is None and features != getattr(config, name):
            setattr(sft_args, name, features)
            logger.info("%s: %s, since not every example has an embedding of its image.", name, ", ".join(features))


def make_config(sft_args: SFTArguments, **values) -> BaseSelectorConfig:
    """The selector's config: the preset, what the recipe sets besides, and `values`."""
    model_type, preset = PRESETS[sft_args.selector]
    own = {name: value for name in CONFIG_FIELDS[model_type] if (value := getattr(sft_args, name)) is not None}
    if sft_args.encoding is not None:
        own["query_features"], own["candidate_features"] = ENCODINGS[sft_args.encoding]
    lora = {LORA_FIELDS[name]: value for name in LORA_FIELDS if (value := getattr(sft_args, name)) is not None}
    if lora:
        own["lora"] = preset["lora"] | lora
    return AutoConfig.for_model(model_type, **(preset | own | values))


if __name__ == "__main__":
    parsers.run_script("sft")
