# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Loading examples: any local or hub dataset, brought to the columns of `schema.EXAMPLES` by a mapping in the
recipe."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
from accelerate import PartialState
from datasets import Dataset, DatasetDict

from ..activity import doing
from ..provenance import digest
from ..schema import EXAMPLES
from ..tables import load_split, reading_error, split_names
from .base_task import BaseTask
from .columns import convert_columns, joined
from .data_arguments import DataArguments
from .images import decode_image, file_states, undecoded
from .parts import parts_of


logger = logging.getLogger(__name__)

#: Part of the key of what is cached: other code may judge an example differently.
_CODE = digest(Path(__file__).read_text(encoding="utf-8"))


@doing("reading split {split!r} of {data_args.dataset!r}")
def load_examples(data_args: DataArguments, split: str, task: BaseTask | None = None) -> Dataset:
    """
    Loads one split as an examples table.

    Args:
        data_args ([`DataArguments`]):
            Source and column mapping.
        split (`str`):
            Split to load; slices such as `"validation[:200]"` work.
        task ([`BaseTask`], *optional*):
            Task that will be done: an example whose column is empty can't be used if the task's template names that
            column.

    Returns:
        `datasets.Dataset`: columns `id`, `image`, `question`, `answer`, `answers`, then the source's other columns.
        Without an id column ids are `"<split>-<row>"`, where a row of a slice has its number in the whole split;
        without an image column images are null; `answers` and `answer` stand in for each other (the most frequent of
        `answers`, or `[answer]`).

    Raises:
        `ValueError`: a missing column or split, a column that can't be converted (see
            [`~columns.convert_columns`]), duplicate ids, no examples, or (with `on_bad_example: raise`) examples that
            can't be used.
    """
    state = PartialState()
    with state.main_process_first():
        names = list(dict.fromkeys(part.split("[")[0].strip() for part in split.split("+")))
        examples = _cut(_whole_splits(data_args, names), split)
        if not len(examples):
            raise ValueError(f"Split {split!r} of {data_args.dataset!r} holds no examples. Name another, or fill it.")
        needed = task.template_columns(examples, split) if task is not None else []
        examples = _handle_bad_examples(examples, data_args.on_bad_example, split, needed)
    return examples


def _whole_splits(data_args: DataArguments, names: list[str]) -> dict[str, Dataset]:
    """Splits of the dataset, or the parts that `split` cuts it into."""
    if data_args.split is None:
        return {name: to_examples(_load_split(data_args, name), data_args, name) for name in names}
    unknown = [name for name in names if name not in data_args.split]
    if unknown:
        raise ValueError(f"There is no part {unknown[0]!r}: split makes the parts {', '.join(data_args.split)}.")
    sources = _split_names(data_args)
    if len(sources) != 1:
        raise ValueError(
            f"split cuts a dataset of one split, and {data_args.dataset!r} has {', '.join(sources)}: name these, or "
            "slices of them such as train[:60%], in place of the parts."
        )
    source = to_examples(_load_split(data_args, sources[0]), data_args, sources[0])
    parts = parts_of(source, data_args.split)
    return {name: source.select(parts[name]) for name in names}


def _cut(whole: dict[str, Dataset], split: str) -> Dataset:
    """The rows that a split or slice names."""
    if split in whole:
        return whole[split]
    try:
        spans = datasets.ReadInstruction.from_spec(split).to_absolute({name: len(one) for name, one in whole.items()})
    except (AssertionError, ValueError) as error:
        raise ValueError(
            f"Can't read the slice {split!r}: {error}. Expected e.g. train[:100] or train[20%:]."
        ) from error
    parts = [whole[span.splitname].select(range(span.from_, span.to)) for span in spans]
    return _checked_ids(joined(parts, axis=0).select_columns(parts[0].column_names), split)


def _on_disk(data_args: DataArguments) -> dict[str, Dataset] | None:
    """The splits of a dataset that `save_to_disk` wrote."""
    path = Path(data_args.dataset).expanduser()
    if not (path / "dataset_dict.json").is_file() and not (path / "state.json").is_file():
        return None
    loaded = datasets.load_from_disk(str(path))
    return dict(loaded) if isinstance(loaded, DatasetDict) else {str(loaded.split or "train"): loaded}


def _split_names(data_args: DataArguments) -> list[str]:
    try:
        return list(_on_disk(data_args) or split_names(*_source(data_args), **_options(data_args)))
    except Exception as error:
        raise ValueError(f"Can't load the dataset {data_args.dataset!r}: {reading_error(error)}") from error


def _load_split(data_args: DataArguments, split: str) -> Dataset:
    try:
        tables = _on_disk(data_args)
        if tables is None:
            return load_split(*_source(data_args), split, **_options(data_args))
        if split not in tables:
            raise ValueError(f"there is no split {split!r}, only {', '.join(map(repr, tables))}")
        return tables[split]
    except Exception as error:
        raise ValueError(
            f"Can't load split {split!r} of the dataset {data_args.dataset!r}: {reading_error(error)}"
        ) from error


def _source(data_args: DataArguments) -> tuple[str, str | None]:
    return data_args.dataset, data_args.dataset_config


def _options(data_args: DataArguments) -> dict:
    return {"revision": data_args.dataset_revision, "data_files": data_args.data_files}


def to_examples(dataset: Dataset, data_args: DataArguments, split: str) -> Dataset:
    """Renames and completes the columns of `dataset` so that it satisfies `schema.EXAMPLES`; see [`load_examples`]."""
    dataset = _rename_columns(dataset, data_args.columns or {}, split)
    present = set(dataset.column_names)
    if "question" not in present or not present & {"answer", "answers"}:
        raise ValueError(
            f"Split {split!r} has the columns {sorted(present)}; an examples table needs `question` and `answer` (or "
            "`answers`). Map other names in the recipe: `columns: {question: THEIR_NAME, answer: THEIR_NAME}`."
        )
    dataset = convert_columns(dataset, data_args.image_dir and os.path.expanduser(data_args.image_dir), split)
    if "id" not in present:
        logger.info("No id column in split %r: ids are '%s-<row>'.", split, split)
        dataset = _with_column(dataset, "id", [f"{split}-{row}" for row in range(len(dataset))], split)
    if "answer" not in present:
        dataset = _with_column(dataset, "answer", [_most_frequent(answers) for answers in dataset["answers"][:]])
    if "answers" not in present:
        lists = [[] if answer is None else [answer] for answer in dataset["answer"][:]]
        dataset = _with_column(dataset, "answers", lists)
    if "image" not in present:
        dataset = _with_column(dataset, "image", [None] * len(dataset))
    for name, feature in EXAMPLES.items():
        if dataset.features[name] != feature:
            dataset = dataset.cast_column(name, feature)
    dataset = dataset.select_columns([*EXAMPLES, *(c for c in dataset.column_names if c not in EXAMPLES)])
    return _checked_ids(dataset, split)


def _with_column(dataset: Dataset, name: str, values: list, *made_of: str) -> Dataset:
    """`Dataset.add_column` of what follows from the table and `made_of`, which names it in place of all values."""
    return dataset.add_column(name, values, new_fingerprint=digest([dataset._fingerprint, name, *made_of, _CODE]))


def _checked_ids(examples: Dataset, split: str) -> Dataset:
    """The examples, unless two of them have one id."""
    duplicates = [identifier for identifier, count in Counter(examples["id"][:]).items() if identifier and count > 1]
    if duplicates:
        raise ValueError(
            f"Split {split!r} has {len(duplicates)} duplicate ids, e.g. {duplicates[:3]}. Ids are what tables refer "
            "to each other by: make them unique, or map another column with `columns: {id: THEIR_NAME}`."
        )
    return examples


def _rename_columns(dataset: Dataset, columns: dict[str, str], split: str) -> Dataset:
    missing = [theirs for theirs in columns.values() if theirs not in dataset.column_names]
    if missing:
        raise ValueError(f"Split {split!r} has no column {missing[0]!r}; its columns are {dataset.column_names}.")
    # A column may go by several names, and columns may trade places.
    mapped = [
        dataset.select_columns([theirs]).rename_columns({theirs: ours} if theirs != ours else {})
        for ours, theirs in columns.items()
    ]
    rest = dataset.remove_columns(list({*columns.values(), *columns} & set(dataset.column_names)))
    return joined([rest, *mapped][not rest.column_names :], axis=1) if mapped else dataset


def _most_frequent(answers: list[str | None] | None) -> str | None:
    words = Counter(answer for answer in answers or [] if answer and answer.strip())
    return words.most_common(1)[0][0] if words else None


def _problem(row: dict, needed: list[str], files: str, code: str) -> dict:
    """Why an example can't be used, or the empty string."""
    empty = [name for name in ("id", "question", "answer") if not (row[name] or "").strip()]
    gaps = [name for name in needed if row[name] is None]
    if empty:
        problem = f"its {empty[0]} is empty"
    elif gaps:
        problem = f"its column {gaps[0]!r}, which question_template names, is empty"
    elif None in (row["answers"] or [None]):
        problem = "an answer in its `answers` is missing" if row["answers"] else "it has no annotators' answers"
    elif not any(answer.strip() for answer in row["answers"]):
        problem = "all its `answers` are empty"
    else:
        problem = _image_problem(row["image"])
    return {"problem": problem}


def _image_problem(image: dict | None) -> str:
    if image is None:
        return ""
    try:
        decode_image(image)
    except ValueError as error:
        return f"its image {error}"
    return ""


def _handle_bad_examples(examples: Dataset, on_bad_example: str, split: str, needed: Sequence[str] = ()) -> Dataset:
    logger.info("Checking the %d examples of split %r.", len(examples), split)
    columns = [*EXAMPLES, *(name for name in needed if name not in EXAMPLES)]
    stored = undecoded(examples.select_columns(columns))
    # A file of an image may be mended while the table that names it stays the same.
    options = {"needed": list(needed), "files": file_states(stored), "code": _CODE}
    checked = stored.map(_problem, fn_kwargs=options, remove_columns=columns, desc=f"Checking {split}")
    problems = {row: problem for row, problem in enumerate(checked["problem"][:]) if problem}
    if not problems:
        return examples
    ids = stored["id"]
    named = "; ".join(
        f"{repr(ids[row]) if (ids[row] or '').strip() else f'row {row}'}: {problem}"
        for row, problem in list(problems.items())[:5]
    )
    if on_bad_example == "raise":
        raise ValueError(
            f"{len(problems)} of {len(examples)} examples of split {split!r} can't be used: {named}. Mend them, or "
            "set `on_bad_example: skip` to leave them out."
        )
    if len(problems) == len(examples):
        raise ValueError(f"None of the {len(examples)} examples of split {split!r} can be used: {named}.")
    logger.warning("Skipping %d of %d examples of split %r: %s", len(problems), len(examples), split, named)
    return examples.select([row for row in range(len(examples)) if row not in problems])


def check_disjoint(examples: Dataset, queries: Dataset, split: str, query_split: str) -> None:
    """
    Raises `ValueError` if examples of two splits share an id: it could not be told which of them an id names.

    Slices of one split (`train`, `train[:100]`) hold the same examples under the same ids, and may share them.
    """
    if split.split("[")[0] == query_split.split("[")[0]:
        return
    shared = sorted(set(examples["id"][:]) & set(queries["id"][:]))
    if shared:
        raise ValueError(
            f"{len(shared)} ids stand in both {split!r} and {query_split!r}, e.g. {shared[:3]}. An id must name one "
            "example: give the splits different ids."
        )


def check_distinct(known: Mapping[str, Dataset], queries: Dataset, split: str) -> None:
    """Raises `ValueError` if queries of a split are in another split, or slice, of queries, too."""
    for name, others in known.items():
        shared = sorted(set(others["id"][:]) & set(queries["id"][:]))
        if shared:
            raise ValueError(
                f"{len(shared)} queries are in both {name!r} and {split!r}, e.g. {shared[:3]}. Name splits or slices "
                "that share no example."
            )


def first_queries(examples: Dataset, num_queries: int | None) -> Dataset:
    """The queries of a split, as `num_queries` cuts it."""
    return examples.select(range(min(num_queries or len(examples), len(examples))))
