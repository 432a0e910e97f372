# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Loads a local or hub dataset with the columns of `schema.EXAMPLES`, by the column mapping of the recipe."""

import difflib
import glob
import hashlib
import json
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import datasets
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as BUILDERS

from ..log import doing
from ..provenance import json_hash
from ..schema import EXAMPLES
from ..tables import load_split, reading_error, split_names
from .arguments import DataArguments
from .base_task import BaseTask
from .columns import convert_columns, joined
from .images import content_hash, decode_image, file_states, undecoded


logger = logging.getLogger(__name__)

#: Part of the cache key: after a change of this file, examples are checked again.
_CODE = json_hash(Path(__file__).read_text(encoding="utf-8"))


@doing("reading split {split!r} of {data_args.dataset!r}")
def load_examples(
    data_args: DataArguments, split: str, task: BaseTask | None = None, key: str = "the split"
) -> Dataset:
    """
    Loads a split, or slices such as `"validation[:200]"`, as an examples table; `key` is its recipe key for messages.

    The columns are `id`, `image`, `question`, `answer`, `answers`, then the source's other columns. Without an id
    column ids are `"<split>-<row>"`, where the row is counted in the whole split, not in the slice. Without an image
    column images are null. A missing `answer` is the most frequent of `answers`; missing `answers` are `[answer]`.

    Raises:
        `ValueError`: a missing column or split, a column that can't be converted (see
            [`~columns.convert_columns`]), duplicate ids, no examples, or (with `on_bad_example: raise`) examples that
            can't be used; a column of the template of `task` must not be empty. Only the slice is checked.
    """
    key = "pool_split" if split == data_args.pool_split else key
    with PartialState().main_process_first():
        names = list(dict.fromkeys(part.split("[")[0].strip() for part in split.split("+")))
        if data_args.split is None:
            whole = _read_splits(data_args, names, split, key)
            rows = _rows_of(split, {name: len(table) for name, table in whole.items()}, key)
            tables = [to_examples(whole[name], data_args, name, own) for name, own in rows]
        else:
            parts = _parts(data_args, names, split, key)
            rows = _rows_of(split, {name: len(part) for name, part in parts.items()}, key)
            tables = [parts[name].select(own) for name, own in rows]
        examples = _joined(tables, split, key)
        ids = examples["id"][:]
        duplicates = [identifier for identifier, count in Counter(ids).items() if identifier and count > 1]
        if duplicates:
            message = f"Split {split!r} has {len(duplicates)} duplicate ids, e.g. {duplicates[:3]}"
            raise ValueError(f"{message}. Make them unique, or map another column: `columns: {{id: THEIR_NAME}}`.")
        needed = task.template_columns(examples, split) if task is not None else []
        examples = _handle_bad_examples(examples, data_args, split, needed)
    # For `check_disjoint`; derived tables lack the attribute.
    examples.source_of = dict(zip(ids, ((name, row) for name, own in rows for row in own), strict=True))
    return examples


def _joined(tables: list[Dataset], split: str, key: str) -> Dataset:
    try:
        return joined(tables, axis=0)
    except ValueError as error:
        types: dict[str, set[str]] = defaultdict(set)
        for table in tables:
            for name, feature in table.features.items():
                types[name].add(str(feature))
        name = next((name for name, own in types.items() if len(own) > 1), "")
        kinds = " and ".join(sorted(types[name]))
        message = f"{key} is {split!r}, and the column {name!r} of its splits holds {kinds}; expected a single type"
        raise ValueError(f"{message}. Convert it, or name a single split.") from error


def _parts(data_args: DataArguments, names: list[str], split: str, key: str) -> dict[str, Dataset]:
    unknown = next((name for name in names if name not in data_args.split), None)
    if unknown is not None:
        _refuse_split(key, split, unknown, data_args.split, "the mapping `split` makes no part")
    sources = _source_split_names(data_args)
    if len(sources) != 1:
        message = f"split cuts a dataset of one split, and {data_args.dataset!r} has {', '.join(sources)}"
        raise ValueError(f"{message}: name these, or slices of them such as train[:60%], in place of the parts.")
    source = to_examples(_read_splits(data_args, sources, split, key)[sources[0]], data_args, sources[0])
    columns = ["image", "question", "answer"]
    stored = undecoded(source.select_columns(columns))
    options = {"files": file_states(stored), "code": _CODE}
    shares = stored.map(_share, fn_kwargs=options, remove_columns=columns, desc="Cutting into parts")["share"][:]
    ends = list(accumulate(data_args.split.values()))[:-1]
    rows: dict[str, list[int]] = {name: [] for name in data_args.split}
    parts = list(rows)
    for row, share in enumerate(shares):
        rows[parts[sum(share >= end for end in ends)]].append(row)
    for name, own in rows.items():
        if not own:
            message = f"split gives the part {name!r} none of the {len(source)} examples, of which {len(set(shares))}"
            remedy = "Give it a larger fraction, or cut the dataset by slices such as train[:60%]."
            raise ValueError(f"{message} are different. {remedy}")
    return {name: source.select(rows[name]) for name in names}


def _share(row: dict, files: str, code: str) -> dict[str, float]:
    """A hash of an example, scaled to 0..1, that decides on its part: equal examples are in the same part."""
    texts = [(row[name] or "").strip() for name in ("question", "answer")]
    content = json.dumps([content_hash(row["image"]), *texts]).encode()
    return {"share": int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64}


def to_examples(dataset: Dataset, data_args: DataArguments, split: str, rows: range | None = None) -> Dataset:
    """Converts a table, or some of its rows, to the columns of `schema.EXAMPLES`; see [`load_examples`]."""
    rows = range(len(dataset)) if rows is None else rows
    dataset = _rename_columns(dataset, data_args.columns or {}, split)
    present = set(dataset.column_names)
    if "question" not in present or not present & {"answer", "answers"}:
        message = f"Split {split!r} has the columns {sorted(present)}; expected `question` and `answer` (or `answers`)"
        raise ValueError(f"{message}. Map them: `columns: {{question: THEIR_NAME, answer: THEIR_NAME}}`.")
    dataset = convert_columns(dataset, data_args.image_dir and os.path.expanduser(data_args.image_dir), split, rows)
    if "id" not in present:
        logger.info("No id column in split %r: ids are '%s-<row>'.", split, split)
        dataset = _with_column(dataset, "id", [f"{split}-{row}" for row in rows], split)
    if "answer" not in present:
        targets = []
        for answers in dataset["answers"][:]:
            counts = Counter(answer for answer in answers or [] if answer and answer.strip())
            targets.append(max(counts, key=counts.get, default=None))
        dataset = _with_column(dataset, "answer", targets)
    if "answers" not in present:
        lists = [[] if answer is None else [answer] for answer in dataset["answer"][:]]
        dataset = _with_column(dataset, "answers", lists)
    if "image" not in present:
        dataset = _with_column(dataset, "image", [None] * len(dataset))
    for name, feature in EXAMPLES.items():
        if dataset.features[name] != feature:
            dataset = dataset.cast_column(name, feature)
    return dataset.select_columns([*EXAMPLES, *(c for c in dataset.column_names if c not in EXAMPLES)])


def _with_column(dataset: Dataset, name: str, values: list, *made_of: str) -> Dataset:
    """`Dataset.add_column` for values that depend only on the table and `made_of`, which define the hash."""
    return dataset.add_column(name, values, new_fingerprint=json_hash([dataset._fingerprint, name, *made_of, _CODE]))


def _rename_columns(dataset: Dataset, columns: dict[str, str], split: str) -> Dataset:
    """Renames columns; a column may have several names, and two columns may swap names."""
    mapped = []
    for ours, theirs in columns.items():
        if theirs not in dataset.column_names:
            message = f"columns says {{{ours}: {theirs}}}, and split {split!r} has no column {theirs!r}, only "
            hint = _did_you_mean(theirs, dataset.column_names)
            raise ValueError(f"{message}{', '.join(dataset.column_names)}.{hint}")
        column = dataset.select_columns([theirs])
        mapped.append(column.rename_columns({theirs: ours} if theirs != ours else {}))
    rest = dataset.remove_columns(list({*columns.values(), *columns} & set(dataset.column_names)))
    return joined([rest, *mapped][not rest.column_names :], axis=1) if mapped else dataset


def _problem(row: dict, needed: list[str], files: str, code: str) -> dict:
    empty = [name for name in ("id", "question", "answer") if not (row[name] or "").strip()]
    gaps = [name for name in needed if row[name] is None]
    problem = ""
    if empty:
        problem = f"its {empty[0]} is empty"
    elif gaps:
        problem = f"its column {gaps[0]!r}, which question_template names, is empty"
    elif not row["answers"]:
        problem = "it has no annotators' answers"
    elif None in row["answers"]:
        problem = "an answer in its `answers` is missing"
    elif not any(answer.strip() for answer in row["answers"]):
        problem = "all its `answers` are empty"
    elif row["image"] is not None:
        try:
            decode_image(row["image"])
        except ValueError as error:
            problem = f"its image {error}"
    return {"problem": problem}


def _handle_bad_examples(examples: Dataset, data_args: DataArguments, split: str, needed: list[str]) -> Dataset:
    logger.info("Checking the %d examples of split %r.", len(examples), split)
    columns = [*EXAMPLES, *(name for name in needed if name not in EXAMPLES)]
    stored = undecoded(examples.select_columns(columns))
    # An image file may change while the table that names it stays the same.
    options = {"needed": needed, "files": file_states(stored), "code": _CODE}
    checked = stored.map(_problem, fn_kwargs=options, remove_columns=columns, desc=f"Checking {split}")
    problems = {row: problem for row, problem in enumerate(checked["problem"][:]) if problem}
    if not problems:
        return examples
    ids = [identifier or "" for identifier in stored["id"][:]]
    shown = []
    for row, problem in list(problems.items())[:5]:
        shown.append(f"{repr(ids[row]) if ids[row].strip() else f'example {row + 1}'}: {problem}")
    named = "; ".join(shown)
    source = split.split("[")[0]
    if any("FileNotFoundError" in problem for problem in problems.values()):
        folder = repr(data_args.image_dir) if data_args.image_dir else "not set"
        remedy = f"Set `image_dir` to the folder that the paths of images are relative to; it is {folder}."
    else:
        remedy = "Fix them, or set `on_bad_example: skip` to leave them out."
        if re.fullmatch(rf"{re.escape(source)}-\d+", ids[min(problems)]):
            remedy += f" {source}-0 is the first row."
    total = f"{len(examples)} examples of split {split!r}"
    if data_args.on_bad_example == "raise":
        raise ValueError(f"{len(problems)} of {total} can't be used: {named}. {remedy}")
    if len(problems) == len(examples):
        raise ValueError(f"None of the {total} can be used: {named}. {remedy}")
    logger.warning("Skipping %d of %s: %s", len(problems), total, named)
    return examples.select([row for row in range(len(examples)) if row not in problems])


def first_queries(examples: Dataset, num_queries: int | None) -> Dataset:
    """The first `num_queries` examples, or all."""
    return examples.select(range(min(num_queries or len(examples), len(examples))))


def _read_splits(data_args: DataArguments, names: list[str], split: str, key: str) -> dict[str, Dataset]:
    """Loads whole splits by name; errors name the recipe key `key` and its value `split`."""
    _check_files(data_args)
    dataset, tables = data_args.dataset, {}
    for name in names:
        try:
            on_disk = _on_disk(data_args)
            tables[name] = on_disk[name] if on_disk else load_split(split=name, **_source(data_args))
        except Exception as error:
            known = _source_split_names(data_args)
            if known and name not in known:
                is_folder = name and os.path.isdir(os.path.join(os.path.expanduser(dataset), name))
                hint = f" Set `data_files: {{{name}: {name}/**}}` to read that folder." if is_folder else ""
                _refuse_split(key, split, name, known, f"the dataset {dataset!r} has no split", hint)
            reason = reading_error(error)
            raise ValueError(f"Can't load split {name!r} of the dataset {dataset!r}: {reason}") from error
    return tables


def _source_split_names(data_args: DataArguments) -> list[str]:
    _check_files(data_args)
    try:
        return [str(name) for name in _on_disk(data_args) or split_names(**_source(data_args))]
    except Exception as error:
        hint = "" if "/" in data_args.dataset else _did_you_mean(data_args.dataset, BUILDERS)
        raise ValueError(f"Can't load the dataset {data_args.dataset!r}: {reading_error(error)}.{hint}") from error


def _refuse_split(key: str, split: str, name: str, known: Iterable[str], lacks: str, hint: str = "") -> NoReturn:
    known = list(known)
    remedy = hint or _did_you_mean(name, known) or f" Use one of these, or a slice such as {known[0]}[:60%]."
    raise ValueError(f"{key} is {split!r}, but {lacks} {name!r}, only {', '.join(known)}.{remedy}") from None


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the known name most similar to `name`, or an empty string."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _rows_of(split: str, sizes: Mapping[str, int], key: str) -> list[tuple[str, range]]:
    """
    Resolves splits and slices joined by `+`, such as `"train[:100]+validation[20%:]"`, to rows. `sizes` has the number
    of rows of each split. Raises `ValueError`, with the recipe key of `split`, for a wrong syntax or an empty slice.
    """
    first, lengths = next(iter(sizes)), ", ".join(f"{name!r} has {size} rows" for name, size in sizes.items())
    remedy = f"Write e.g. {first}[:100] or {first}[20%:80%], the start before the end; {lengths}."
    try:
        spans = datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
    except (AssertionError, ValueError) as error:
        raise ValueError(f"{key} is {split!r}, which is no split or slice of rows. {remedy}") from error
    rows_of_splits = [(span.splitname, range(span.from_, min(span.to, sizes[span.splitname]))) for span in spans]
    for name, rows in rows_of_splits:
        if not rows:
            raise ValueError(f"{key} is {split!r}, which names no row of {name!r}. {remedy}")
    return rows_of_splits


def _on_disk(data_args: DataArguments) -> dict[str, Dataset] | None:
    """The splits of a dataset that `save_to_disk` wrote, `None` for another dataset."""
    path = Path(data_args.dataset).expanduser()
    if not (path / "dataset_dict.json").is_file() and not (path / "state.json").is_file():
        return None
    loaded = datasets.load_from_disk(str(path))
    return dict(loaded) if isinstance(loaded, DatasetDict) else {str(loaded.split or "train"): loaded}


def _source(data_args: DataArguments) -> dict[str, Any]:
    return {
        "path_or_id": data_args.dataset,
        "config": data_args.dataset_config,
        "revision": data_args.dataset_revision,
        "data_files": data_args.data_files,
    }


def _check_files(data_args: DataArguments) -> None:
    dataset, files = data_args.dataset, data_args.data_files
    if dataset.startswith(("/", "~", ".")) and not os.path.exists(os.path.expanduser(dataset)):
        remedy = "Set it to a folder, or to a dataset of the hub."
        raise ValueError(f"dataset is {dataset!r}, and there is no such folder. {remedy}")
    if dataset not in BUILDERS or os.path.isdir(dataset):
        return
    if not files:
        remedy = "Set the files of each split: `data_files: {train: FILE, test: FILE}`."
        raise ValueError(f"dataset is {dataset!r}, a kind of file, and no data_files are given. {remedy}")
    for group in files.values() if isinstance(files, Mapping) else [files]:
        for name in [group] if isinstance(group, str) else group:
            path = os.path.expanduser(name)
            if "://" not in name and not os.path.exists(path) and not glob.glob(path, recursive=True):
                folder = os.path.dirname(path) or "."
                near = _did_you_mean(os.path.basename(path), os.listdir(folder) if os.path.isdir(folder) else [])
                hint = near or " Set it to a file that exists."
                message = f"data_files names {name!r}, and there is no such file in {os.path.abspath(folder)!r}."
                raise ValueError(message + hint)
