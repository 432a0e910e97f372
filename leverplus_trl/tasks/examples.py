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

"""Loading examples: any local or hub dataset, brought to the columns of `schema.EXAMPLES` by a mapping in the
recipe."""

import logging
from collections import Counter
from pathlib import Path

import datasets
from accelerate import PartialState
from datasets import ClassLabel, Dataset, DatasetDict, Value

from ..schema import EXAMPLES
from ..tables import load_split
from .data_arguments import DataArguments
from .images import decode_image, undecoded


logger = logging.getLogger(__name__)


def load_examples(data_args: DataArguments, split: str) -> Dataset:
    """
    Loads one split as an examples table.

    Args:
        data_args ([`DataArguments`]):
            Source and column mapping.
        split (`str`):
            Split to load; slices such as `"validation[:200]"` work.

    Returns:
        `datasets.Dataset`: columns `id`, `image`, `question`, `answer`, `answers`, then the source's other columns.
        Without an id column ids are `"<split>-<row>"`; without an image column images are null; `answers` and `answer`
        stand in for each other (the most frequent of `answers`, or `[answer]`).

    Raises:
        `ValueError`: a missing column or split, duplicate ids, or (with `on_bad_example: raise`) examples that can't
        be used.
    """
    state = PartialState()
    with state.main_process_first():
        examples = to_examples(_load_split(data_args, split), data_args, split)
        examples = _handle_bad_examples(examples, data_args.on_bad_example, split)
    return examples


def _load_split(data_args: DataArguments, split: str) -> Dataset:
    path = Path(data_args.dataset)
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        loaded = datasets.load_from_disk(str(path))
        if not isinstance(loaded, DatasetDict):
            return loaded
        if split not in loaded:
            raise ValueError(f"{data_args.dataset!r} has no split {split!r}; it has {', '.join(loaded)}.")
        return loaded[split]
    try:
        return load_split(
            data_args.dataset,
            data_args.dataset_config,
            split,
            revision=data_args.dataset_revision,
            data_files=data_args.data_files,
        )
    except (FileNotFoundError, ValueError, ConnectionError) as error:
        raise ValueError(f"Can't load split {split!r} of the dataset {data_args.dataset!r}: {error}") from error


def to_examples(dataset: Dataset, data_args: DataArguments, split: str) -> Dataset:
    """Renames and completes the columns of `dataset` so that it satisfies `schema.EXAMPLES`; see [`load_examples`]."""
    dataset = _rename_columns(dataset, data_args.columns or {}, split)
    if isinstance(dataset.features.get("answer"), ClassLabel):
        dataset = dataset.add_column("answer_", [dataset.features["answer"].int2str(i) for i in dataset["answer"]])
        dataset = dataset.remove_columns("answer").rename_column("answer_", "answer")
    present = set(dataset.column_names)
    if "question" not in present or not present & {"answer", "answers"}:
        raise ValueError(
            f"Split {split!r} has the columns {sorted(present)}; an examples table needs `question` and `answer` (or "
            "`answers`). Map other names in the recipe: `columns: {question: THEIR_NAME, answer: THEIR_NAME}`."
        )
    if "id" not in present:
        logger.info("No id column in split %r: ids are '%s-<row>'.", split, split)
        dataset = dataset.add_column("id", [f"{split}-{row}" for row in range(len(dataset))])
    # The column alone: the image of the first example may be one that can't be decoded.
    first = dataset.select_columns("answers")[0]["answers"] if "answers" in present and len(dataset) else []
    if any(isinstance(answer, dict) for answer in first):
        # VQAv2 and its like: one mapping an annotator, the words under "answer".
        if "answer" not in first[0]:
            raise ValueError(f"`answers` of split {split!r} holds {first[0]}, which has no key 'answer'.")
        dataset = dataset.map(lambda row: {"answers": [one["answer"] for one in row["answers"]]})
    if "answer" not in present:
        dataset = dataset.add_column("answer", [_most_frequent(answers) for answers in dataset["answers"]])
    if "answers" not in present:
        dataset = dataset.add_column("answers", [[str(answer)] for answer in dataset["answer"]])
    if "image" not in present:
        dataset = dataset.add_column("image", [None] * len(dataset))
    elif dataset.features["image"] == Value("string") and data_args.image_dir:
        folder = Path(data_args.image_dir)
        dataset = dataset.map(lambda row: {"image": str(folder / row["image"])}, desc="Image paths")
    for name, feature in EXAMPLES.items():
        if dataset.features[name] != feature:
            dataset = dataset.cast_column(name, feature)
    duplicates = [identifier for identifier, count in Counter(dataset["id"]).items() if count > 1]
    if duplicates:
        raise ValueError(
            f"Split {split!r} has {len(duplicates)} duplicate ids, e.g. {duplicates[:3]}. Ids are what tables refer "
            "to each other by: make them unique, or map another column with `columns: {id: THEIR_NAME}`."
        )
    return dataset.select_columns([*EXAMPLES, *(c for c in dataset.column_names if c not in EXAMPLES)])


def _rename_columns(dataset: Dataset, columns: dict[str, str], split: str) -> Dataset:
    missing = [theirs for theirs in columns.values() if theirs not in dataset.column_names]
    if missing:
        raise ValueError(f"Split {split!r} has no column {missing[0]!r}; its columns are {dataset.column_names}.")
    # By way of names that nothing has, so that columns can also trade places.
    dataset = dataset.rename_columns({theirs: f"mapped to {ours}" for ours, theirs in columns.items()})
    dataset = dataset.remove_columns([ours for ours in columns if ours in dataset.column_names])
    return dataset.rename_columns({f"mapped to {ours}": ours for ours in columns})


def _most_frequent(answers: list[str]) -> str:
    return Counter(answers).most_common(1)[0][0] if answers else ""


def _bad_example(row: dict) -> dict:
    """Why an example can't be used, or the empty string."""
    if not (row["question"] or "").strip():
        return {"problem": "its question is empty"}
    if not (row["answer"] or "").strip():
        return {"problem": "its answer is empty"}
    if not row["answers"]:
        return {"problem": "it has no annotators' answers"}
    if row["image"] is not None:
        try:
            decode_image(row["image"])
        except ValueError as error:
            return {"problem": f"its image {error}"}
    return {"problem": ""}


def _handle_bad_examples(examples: Dataset, on_bad_example: str, split: str) -> Dataset:
    logger.info("Checking the %d examples of split %r.", len(examples), split)
    checked = undecoded(examples).map(
        _bad_example, remove_columns=[c for c in examples.column_names if c != "id"], desc=f"Checking {split}"
    )
    problems = {row["id"]: row["problem"] for row in checked if row["problem"]}
    if not problems:
        return examples
    named = "; ".join(f"{identifier!r}: {problem}" for identifier, problem in list(problems.items())[:5])
    if on_bad_example == "raise":
        raise ValueError(
            f"{len(problems)} of {len(examples)} examples of split {split!r} can't be used: {named}. Mend them, or "
            "set `on_bad_example: skip` to leave them out."
        )
    logger.warning("Skipping %d of %d examples of split %r: %s", len(problems), len(examples), split, named)
    return examples.select([row for row, identifier in enumerate(examples["id"]) if identifier not in problems])


def check_disjoint(examples: Dataset, queries: Dataset, split: str, query_split: str) -> None:
    """
    Raises `ValueError` if examples of two splits share an id: it could not be told which of them an id names.

    Slices of one split (`train`, `train[:100]`) hold the same examples under the same ids, and may share them.
    """
    if split.split("[")[0] == query_split.split("[")[0]:
        return
    shared = sorted(set(examples["id"]) & set(queries["id"]))
    if shared:
        raise ValueError(
            f"{len(shared)} ids stand in both {split!r} and {query_split!r}, e.g. {shared[:3]}. An id must name one "
            "example: give the splits different ids."
        )


def first_queries(examples: Dataset, num_queries: int | None) -> Dataset:
    """The queries of a split, as `num_queries` cuts it."""
    return examples.select(range(min(num_queries or len(examples), len(examples))))
