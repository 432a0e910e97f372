# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
What someone does who has things to share, in a process whose hub is the tests': `hub_push.py FOLDER`.

Prints what it found as JSON, for test_hub.py to judge.
"""

import json
import os
import sys
from pathlib import Path

from datasets import Dataset
from small_world import beam_arguments, write_examples
from trainer.test_sft_script import SEARCH, WORLD, run, search
from transformers import AutoModel, AutoProcessor

import leverplus_trl.scripts.beams as beams_stage
from leverplus_trl.provenance import dataset_hash
from leverplus_trl.schema import BEAMS, LEDGER, ROLLOUTS
from leverplus_trl.selectors import DemonstrationSelector
from leverplus_trl.tables import push_tables, read_table, write_tables
from leverplus_trl.tasks import DataArguments, load_examples


PROVENANCE = {"stage": "beams", "recipe": SEARCH, "facts": {}, "versions": {}}


def refusal(call, *args, **kwargs) -> str:
    try:
        call(*args, **kwargs)
    except ValueError as error:
        return str(error)
    return "nothing was refused"


def write_beams(folder: Path) -> None:
    splits = {
        name: search(rows, name) for name, rows in {"train": "train[:24]", "validation": "validation[:8]"}.items()
    }
    tables = {"beams": {s: t[0] for s, t in splits.items()}, "ledger": {s: t[1] for s, t in splits.items()}}
    write_tables(folder, tables, "Beams and ledger", "Scores of a rule.", PROVENANCE)


def write_rollouts(folder: Path) -> None:
    """Groups of two: one pick and none."""
    numbers = {"generations": ["a", "b"], "predictions": ["a", "b"], "accuracies": [1.0, 0.0], "gt_probs": [0.9, 0.1]}
    numbers |= {"relevances": [1.0, 0.0], "answer_logprobs": [-0.1, -2.0], "num_answer_tokens": [1, 1]}
    beams = read_table(str(folder.parent / "beams"), "beams", "train", BEAMS)
    rows = [
        {"query_id": row["query_id"], "split": "train", "candidate_ids": row["candidate_ids"], "zero_shot_score": 0.1}
        | {"demonstration_ids": [row["candidate_ids"][:1], []], "sources": ["random", "beam"], **numbers}
        | {"behaviour_logprobs": [-2.0, None]}
        for row in beams
    ]
    table = Dataset.from_list(rows, features=ROLLOUTS)
    write_tables(folder, {"rollouts": {"train": table}}, "Rollouts", "Of a rule.", {**PROVENANCE, "stage": "rollouts"})


def refusals(folder: Path, files: dict[str, str]) -> dict:
    """Recipes whose repository can't be written to."""
    token = os.environ.pop("HF_TOKEN")
    out, train = folder / "refused", {"query_splits": ["train"]}
    found = {"no token": refusal(beams_stage.main, *beam_arguments(files, out, push_to_hub="user/searched", **train))}
    os.environ["HF_TOKEN"] = token
    found["others"] = refusal(beams_stage.main, *beam_arguments(files, out, push_to_hub="others/searched", **train))
    hub = {"push_to_hub": True, "hub_model_id": "others/selector"}
    found["selector"] = refusal(run, folder, folder / "beams", output_dir=str(out), **hub)
    found["no tables"] = refusal(push_tables, folder, "user/nothing")
    beams_stage.main(*beam_arguments(files, out, push_to_hub="user/dry", dry_run=True, **train))
    found["written"] = out.exists()
    return found


def search_and_push(folder: Path, files: dict[str, str]) -> list[str]:
    """The stage beams with `push_to_hub`, twice; what the second run says."""
    small = {"query_splits": ["train"], "num_queries": 2, "num_candidates": 3, "num_shots": 1}
    beams_stage.main(*beam_arguments(files, folder / "searched", **small))
    commits = []
    for _ in range(2):  # added when the search is over; then there is nothing new
        beams_stage.main(*beam_arguments(files, folder / "searched", **small, push_to_hub="user/searched"))
        commits.append((folder / "searched" / "run.log").read_text().splitlines()[-1].split("/")[-1])
    return commits


def push_changing(folder: Path) -> list[str]:
    """Two states of one repository, of which the first has fewer splits; their commits."""
    commits = []
    for splits in (["train"], ["train", "test"]):
        rows = [{"query_id": f"{len(splits)} splits", "split": "train", "demonstration_ids": []}]
        scored = {"answer_logprob": -1.0, "num_answer_tokens": 1, "accuracy": None}
        table = Dataset.from_list([row | scored for row in rows], LEDGER)
        tables = {"ledger": dict.fromkeys(splits, table)}
        write_tables(folder, tables, "T", "t", {**PROVENANCE, "recipe": {"splits": splits}})
        commits.append(push_tables(folder, "user/changing").oid)
    return commits


def main(folder: Path) -> dict:
    examples = {name: load_examples(DataArguments(dataset=str(WORLD)), rows) for name, rows in ROWS.items()}
    files = write_examples(folder, {name: table.select(range(8)) for name, table in examples.items()})
    write_beams(folder / "beams")
    write_rollouts(folder / "rollouts")
    found = {"refusals": refusals(folder, files), "searched": search_and_push(folder, files)}
    found["changing"] = push_changing(folder / "changing")
    found["beams"] = push_tables(folder / "beams", "user/beams").oid
    push_tables(folder / "rollouts", "user/rollouts", private=True)
    examples["pool"].push_to_hub("user/examples", split="pool")
    examples["train"].push_to_hub("user/examples", split="train")
    found["pool"] = dataset_hash(examples["pool"])

    hub = {"push_to_hub": True, "hub_model_id": "user/selector"}
    output = run(folder, folder / "beams", num_train_epochs=2, **hub)
    embeddings = {"embeddings_dir": str(folder / "embeddings")}
    selector = DemonstrationSelector.from_pretrained(str(output), pool=examples["pool"], **embeddings)
    chosen = selector.select_batch(examples["validation"])
    found["chosen"] = [[one.demonstration_ids, one.logprob] for one in chosen]
    selector.push_to_hub("user/copy", private=True)
    model, processor = AutoModel.from_pretrained(output), AutoProcessor.from_pretrained(output)
    model.push_to_hub("user/parts")
    processor.push_to_hub("user/parts")
    selector.model.config.name_or_path = ""  # as of a model that was never saved
    selector.push_to_hub("user/unsaved")
    run(folder, folder / "beams", num_train_epochs=2, **hub)  # complete, and the hub has it
    return found


ROWS = {"pool": SEARCH["pool_split"], "train": "train[:24]", "validation": "validation[:8]"}

if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
