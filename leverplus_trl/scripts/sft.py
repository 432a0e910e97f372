# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""
Stage `sft`: a selector learns what a frozen VLM prefers, from the beams and the ledger.

```bash
leverplus sft --config recipes/demo/20_sft.yaml
```
"""

import logging
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from datasets import Dataset
from transformers import TrainerCallback, set_seed
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy
from trl import TrlParser

from ..launch import start_stage
from ..provenance import dataset_fingerprint, model_revision
from ..retrieval import ExampleEmbeddings, embed_examples
from ..run_folder import RunFolder
from ..schema import BEAMS, LEDGER
from ..selectors import PRESETS, PointerSelectorConfig, PointerSelectorModel, PointerSelectorProcessor
from ..tables import read_table, splits_of, table_provenance
from ..tasks import DataArguments, load_examples
from ..trainer import SelectorDataset, SelectorSFTConfig, SelectorSFTTrainer, scored_prefixes
from .stage_arguments import StageArguments


logger = logging.getLogger("leverplus_trl.scripts.sft")  # `__name__` is "__main__" where a launcher runs this

#: What a selector must do as the search did.
FROM_THE_BEAMS = ("sampler", "num_candidates", "sampler_seed", "insertion", "score", "num_shots")


@dataclass
class SFTArguments:
    """
    What to learn from, and which selector learns.

    Candidates, insertion, score and encoder are those of the beams: a selector must choose as the search did.

    Args:
        beams (`str`):
            Folder or hub id of the beams and ledger tables.
        beams_revision (`str`, *optional*):
            Hub revision of these.
        train_split (`str`, *optional*, defaults to `"train"`):
            Split of the beams to learn from; slices such as `"train[:100]"` work.
        eval_split (`str`, *optional*, defaults to `"validation"`):
            Split of the beams that chooses the best checkpoint; null for none, which keeps the last.
        selector (`str`, *optional*, defaults to `"v2"`):
            Preset of the selector.
        encoder (`str`, *optional*, defaults to that of the beams):
            Frozen encoder of the embeddings.
        encoder_revision (`str`, *optional*):
            Its revision.
        embeddings_dir (`str`, *optional*):
            Where embeddings are kept.
        query_features, candidate_features, hidden_size, num_tower_layers, num_cross_attention_layers, num_heads,
        history, dropout, initial_temperature (*optional*, default to those of the preset):
            Fields of [`PointerSelectorConfig`].
    """

    beams: str = field(metadata={"help": "Folder or hub id of the beams and ledger tables."})
    beams_revision: str | None = field(default=None, metadata={"help": "Hub revision of the beams."})
    train_split: str = field(default="train", metadata={"help": "Split of the beams to learn from."})
    eval_split: str | None = field(
        default="validation", metadata={"help": "Split of the beams that chooses the best checkpoint; null for none."}
    )
    selector: str = field(default="v2", metadata={"help": f"Preset of the selector: {' | '.join(PRESETS)}."})
    encoder: str | None = field(default=None, metadata={"help": "Frozen encoder; that of the beams if not given."})
    encoder_revision: str | None = field(default=None, metadata={"help": "Its hub revision."})
    embeddings_dir: str | None = field(default=None, metadata={"help": "Where embeddings are kept."})
    query_features: list[str] | None = field(default=None, metadata={"help": "What describes a query: image, text."})
    candidate_features: list[str] | None = field(default=None, metadata={"help": "What describes a candidate."})
    hidden_size: int | None = field(default=None, metadata={"help": "Width of the selector."})
    num_tower_layers: int | None = field(default=None, metadata={"help": "Linear layers of a tower."})
    num_cross_attention_layers: int | None = field(default=None, metadata={"help": "Blocks of cross-attention."})
    num_heads: int | None = field(default=None, metadata={"help": "Attention heads of a block."})
    history: str | None = field(default=None, metadata={"help": "none | scalar_gate | vector_gate | gru."})
    dropout: float | None = field(default=None, metadata={"help": "Dropout while training."})
    initial_temperature: float | None = field(default=None, metadata={"help": "First temperature of the scores."})

    def __post_init__(self):
        if self.selector not in PRESETS:
            raise ValueError(f"selector is {self.selector!r}; expected one of {', '.join(PRESETS)}.")
        PointerSelectorConfig(**self.config_values())  # refuses nonsense before any table is read

    def config_values(self) -> dict:
        """Values of the selector's config: the preset, and what is set beside it."""
        known = {one.name for one in fields(PointerSelectorConfig)} - {"encoder", "encoder_revision"}
        own = {name: value for name, value in asdict(self).items() if name in known and value is not None}
        return PRESETS[self.selector] | own


def make_parser() -> TrlParser:
    return TrlParser(
        (StageArguments, DataArguments, SFTArguments, SelectorSFTConfig),
        prog="leverplus sft",
        description="Train a selector on beams and ledger.",
    )


def main(
    stage_args: StageArguments, data_args: DataArguments, sft_args: SFTArguments, training_args: SelectorSFTConfig
) -> None:
    state = start_stage(stage_args, "sft")
    made_by = table_provenance(sft_args.beams)
    check_splits(sft_args)
    pool = load_examples(data_args, data_args.pool_split)
    splits = [split for split in (sft_args.train_split, sft_args.eval_split) if split]
    beams = {split: read_table(sft_args.beams, "beams", split, BEAMS, sft_args.beams_revision) for split in splits}
    check_pool(beams, pool, data_args.pool_split, made_by)
    encoder, encoder_revision = encoder_of(sft_args, made_by["recipe"])
    sizes = ", ".join(f"{len(table)} queries of {split}" for split, table in beams.items())
    logger.info("%s; a pool of %d.", sizes, len(pool))
    if stage_args.dry_run:
        return
    if sft_args.eval_split is None:
        training_args.eval_strategy, training_args.load_best_model_at_end = IntervalStrategy.NO, False
    recipe = asdict(stage_args) | asdict(data_args) | asdict(sft_args) | plain_arguments(training_args)
    facts = {
        "beams_fingerprint": {split: dataset_fingerprint(table) for split, table in beams.items()},
        "pool_fingerprint": dataset_fingerprint(pool),
        "encoder_commit": model_revision(encoder, encoder_revision),
    }
    run = RunFolder(training_args.output_dir, "sft", recipe, facts)
    if (run.path / "processor_config.json").exists():  # what is saved last; the config is saved before the weights
        logger.info("%s is complete: nothing to do.", run.path)
        return
    config = PointerSelectorConfig(
        **sft_args.config_values(),
        **{name: made_by["recipe"][name] for name in FROM_THE_BEAMS},
        encoder=encoder,
        encoder_revision=encoder_revision,
        encoder_commit=facts["encoder_commit"],
        trained_on={"beams": sft_args.beams, **made_by},
    )
    model, datasets = build(config, beams, pool, data_args, sft_args, training_args.seed)
    train(model, datasets, sft_args, training_args)
    logger.info("The selector is in %s.", run.path)
    state.wait_for_everyone()


def build(
    config: PointerSelectorConfig,
    beams: dict[str, Dataset],
    pool: Dataset,
    data_args: DataArguments,
    sft_args: SFTArguments,
    seed: int,
) -> tuple[PointerSelectorModel, dict[str, SelectorDataset]]:
    """An untrained selector and its data, by split; the widths of the embeddings are filled into the config."""

    def embed(examples: Dataset) -> ExampleEmbeddings:
        size = config.trained_on["recipe"]["encoder_batch_size"]
        where = {"batch_size": size, "embeddings_dir": sft_args.embeddings_dir}
        return embed_examples(examples, config.encoder, config.encoder_revision, config.features, **where)

    pool_embeddings = embed(pool)
    for name in config.features:
        setattr(config, f"{name}_embed_dim", getattr(pool_embeddings, name).shape[1])
    processor = PointerSelectorProcessor(config.query_features, config.candidate_features)
    datasets = {}
    for split, table in beams.items():
        ledger = read_table(sft_args.beams, "ledger", split_name(split), LEDGER, sft_args.beams_revision)
        scored = scored_prefixes(table, ledger, config.insertion, config.score)
        queries = embed(load_examples(data_args, split_name(split)))
        ids = table["query_id"], table["candidate_ids"]
        datasets[split] = SelectorDataset(*ids, queries, pool_embeddings, processor, scored)
    set_seed(seed)
    model = PointerSelectorModel(config)
    features = (config.query_features, config.candidate_features)
    model.fit_inputs(*(processor.fuse(pool_embeddings, names) for names in features))
    return model, datasets


def train(
    model: PointerSelectorModel,
    datasets: dict[str, SelectorDataset],
    sft_args: SFTArguments,
    training_args: SelectorSFTConfig,
) -> None:
    """Trains, from the last checkpoint if there is one, and saves the selector with its card."""
    trainer = SelectorSFTTrainer(
        model,
        training_args,
        train_dataset=datasets[sft_args.train_split],
        eval_dataset=datasets.get(sft_args.eval_split),
        callbacks=[LogToFile()],
    )
    last = training_args.resume_from_checkpoint or last_checkpoint(Path(training_args.output_dir))
    trainer.train(resume_from_checkpoint=last)
    if sft_args.eval_split:
        trainer.evaluate()
    trainer.save_state()
    trainer.create_model_card()
    trainer.save_model()  # last, since a folder with a config counts as complete


class LogToFile(TrainerCallback):
    """Sends what the trainer logs to the run's log, so that a run in the background can be followed."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        logger.info("Step %d of %d: %s", state.global_step, state.max_steps, logs)


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole: the trainer's state is what is written last into one."""
    whole = [state.parent for state in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/trainer_state.json")]
    return str(max(whole, key=lambda checkpoint: int(checkpoint.name.split("-")[1]))) if whole else None


def split_name(split: str) -> str:
    """The split that a slice such as `train[:100]` is taken from."""
    return split.split("[")[0]


def plain_arguments(training_args: SelectorSFTConfig) -> dict:
    """Training arguments as they stand in a recipe: without what differs between machines, processes and restarts."""
    passing = ("local_rank", "resume_from_checkpoint", "disable_tqdm", "logging_dir", "use_cpu", "ddp_backend")
    return {name: value for name, value in training_args.to_dict().items() if name not in passing}


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


def check_splits(sft_args: SFTArguments) -> None:
    """Raises `ValueError` if the beams lack a split that is asked for."""
    known = splits_of(sft_args.beams, "beams")
    for name in ("train_split", "eval_split"):
        split = getattr(sft_args, name)
        if split and split_name(split) not in known:
            raise ValueError(
                f"{name} is {split!r}, but the beams {sft_args.beams!r} hold the splits {', '.join(known)}. Search "
                "that split with the stage `beams` (`query_splits`), or name "
                f"another{' (null for none)' * (name == 'eval_split')}."
            )


def check_pool(beams: dict[str, Dataset], pool: Dataset, pool_split: str, made_by: dict) -> None:
    """
    Raises `ValueError` if a candidate is not in the pool; warns if the pool's content is another than the search saw.
    """
    known = set(pool["id"])
    for split, table in beams.items():
        missing = sorted({name for ids in table["candidate_ids"] for name in ids} - known)
        if missing:
            raise ValueError(
                f"The candidate {missing[0]!r} of the beams (split {split!r}) is not in the pool (split "
                f"{pool_split!r}, {len(pool)} examples); {len(missing)} are missing. Name the dataset and pool_split "
                f"that the beams were searched with: {made_by['recipe'].get('dataset')!r}, "
                f"{made_by['recipe'].get('pool_split')!r}."
            )
    if made_by["facts"].get("pool_fingerprint") not in (None, dataset_fingerprint(pool)):
        logger.warning(
            "The pool has the ids that the beams were searched with, but other content or columns: scores may not fit "
            "it."
        )


if __name__ == "__main__":
    main(*make_parser().parse_args_and_config())
