# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Writes the concept binding dataset: one parquet file a split, pictures embedded as PNG, and a dataset card.

    python data/concept_binding/make_dataset.py --config recipes/concept_binding_models/00_dataset.yaml

Each row follows from the seed, its split and its position alone: a longer split begins with the rows of a shorter one,
and the same arguments give the same bytes (with the same versions of datasets, pyarrow and Pillow; the rows never
change).
"""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, Features, Value
from PIL import Image
from tqdm import tqdm
from world import CARELESS_FRAMES, KINDS, LEXICON, QUESTIONS, SPLITS, WRONG_SHARE, make_example

from leverplus_trl.recipe_parser import RecipeParser
from leverplus_trl.schema import EXAMPLES


STRING = Value("string")
FEATURES = Features(
    EXAMPLES
    | {
        "kind": STRING,
        "colour": STRING,
        "shape": STRING,
        "texture": STRING,
        "frame": STRING,
        "careless": Value("bool"),
    }
)
_CARD = Path(__file__).parent / "templates" / "dataset_card.md"


@dataclass
class DatasetArguments:
    """Arguments of the dataset's making; the defaults are the committed dataset's."""

    stage: str = field(default="prepare", metadata={"help": "Kind of recipe; always `prepare`."})
    script: str | None = field(default=None, metadata={"help": "This script's path, for whoever runs the recipe."})
    output_dir: str = field(
        default="data/concept_binding",
        metadata={"help": "Directory that README.md and data/*.parquet are written to."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of the dataset. The lexicon is always the same."})
    pool: int = field(default=1000, metadata={"help": "Examples that serve as demonstrations."})
    train: int = field(default=300, metadata={"help": "Training queries."})
    validation: int = field(default=100, metadata={"help": "Validation queries."})
    test: int = field(default=300, metadata={"help": "Test queries."})

    def __post_init__(self):
        for split in SPLITS:
            if getattr(self, split) < 1:
                raise ValueError(f"Split `{split}` has size {getattr(self, split)}: expected 1 or more.")


def make_row(seed: int, split: str, index: int) -> dict:
    """One row of the dataset, with the picture as PNG bytes."""
    example = make_example(seed, split, index)
    made = {"image": {"bytes": _png(example.image), "path": None}, "answers": [example.answer]}
    return {name: made[name] if name in made else getattr(example, name) for name in FEATURES}


def _png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_split(rows: list[dict], folder: Path, split: str) -> str:
    """
    Writes a split and gives the name of its file, which carries a hash of the content: `datasets` names its cache by
    the card, not by what is in the files, and would go on giving the rows of an earlier dataset.
    """
    temporary = folder / f".{split}.parquet"
    Dataset.from_list(rows, features=FEATURES).to_parquet(temporary)
    name = f"{split}-{hashlib.sha256(temporary.read_bytes()).hexdigest()[:12]}.parquet"
    for earlier in folder.glob(f"{split}-*.parquet"):
        earlier.unlink()
    temporary.rename(folder / name)
    return name


def dataset_card(args: DatasetArguments, files: dict[str, str]) -> str:
    """The dataset card: what `load_dataset` reads, and what a reader wants to know."""
    values = {
        "data_files": "\n".join(f"      - split: {s}\n        path: data/{name}" for s, name in files.items()),
        "sizes": ", ".join(f"{split} {getattr(args, split)}" for split in SPLITS),
        "seed": str(args.seed),
        "flags": " ".join(f"--{name} {getattr(args, name)}" for name in ("seed", *SPLITS)),
        "careless_frames": " and ".join(f"`{frame}`" for frame in CARELESS_FRAMES),
        "wrong_share": f"{WRONG_SHARE:.0%}",
        "questions": "\n".join(f"| {kind} | {', '.join(QUESTIONS[kind])} |" for kind in KINDS),
        "lexicon": "\n".join(f"| {concept} | {word} |" for concept, word in LEXICON.items()),
    }
    card = _CARD.read_text()
    for key, value in values.items():
        card = card.replace("{{ " + key + " }}", value)
    return card


def main() -> None:
    (args,) = RecipeParser([DatasetArguments]).parse_args_and_config()
    output_dir = Path(args.output_dir)
    (output_dir / "data").mkdir(parents=True, exist_ok=True)
    files = {}
    with tqdm(total=sum(getattr(args, split) for split in SPLITS), desc="examples") as bar:
        for split in SPLITS:
            rows = []
            for index in range(getattr(args, split)):
                rows.append(make_row(args.seed, split, index))
                bar.update()
            files[split] = write_split(rows, output_dir / "data", split)
    (output_dir / "README.md").write_text(dataset_card(args, files))


if __name__ == "__main__":
    main()
