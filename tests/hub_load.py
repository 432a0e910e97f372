# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
What someone does who has been told names alone, in a process whose hub is the tests': `hub_load.py FOLDER COMMITS`.

Prints what it found as JSON, for test_hub.py to judge.
"""

import json
import re
import sys
from pathlib import Path

from datasets import load_dataset
from huggingface_hub import hf_hub_download
from trainer.test_sft_script import SEARCH, WORLD, run
from transformers import AutoConfig, AutoModel, AutoProcessor

import leverplus_trl
from leverplus_trl.provenance import dataset_hash
from leverplus_trl.schema import LEDGER, ROLLOUTS
from leverplus_trl.tables import read_table, splits_of, table_provenance
from leverplus_trl.tasks import DataArguments, load_examples


def run_snippet(repo_id: str, repo_type: str, **names) -> dict:
    """What the Python of a card leaves behind."""
    card = Path(hf_hub_download(repo_id, "README.md", repo_type=repo_type)).read_text()
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], names)
    return names


def snippets(pool, queries) -> dict:
    names = run_snippet("user/selector", "model", pool=pool, image=queries[0]["image"])
    tables = run_snippet("user/beams", "dataset")
    splits = {name: {split: len(table) for split, table in tables[name].items()} for name in ("beams", "ledger")}
    return {"shots": len(names["demonstrations"]), "question": names["query"]["question"], "splits": splits}


def select(repo_id: str, pool, queries, folder: Path) -> dict:
    config, model = AutoConfig.from_pretrained(repo_id), AutoModel.from_pretrained(repo_id)
    processor = AutoProcessor.from_pretrained(repo_id)
    embeddings = {"embeddings_dir": str(folder / "fresh_embeddings")}
    by_hand = leverplus_trl.DemonstrationSelector(model, processor, pool, **embeddings)
    by_name = leverplus_trl.DemonstrationSelector.from_pretrained(repo_id, pool=pool, **embeddings)
    chosen = [one.select_batch(queries) for one in (by_hand, by_name)]
    found = [[[row.demonstration_ids, row.logprob] for row in rows] for rows in chosen]
    types = [type(one).__name__ for one in (config, model, processor)]
    return {"types": types, "chosen": found, "encoder": config.encoder}


def main(folder: Path, beams_commit: str, *changing: str) -> dict:
    pool = load_dataset("user/examples", split="pool")
    queries = load_examples(DataArguments(dataset=str(WORLD)), "validation[:8]")
    found = {"pool": dataset_hash(pool), "snippets": snippets(pool, queries)}
    by_recipe = load_examples(DataArguments(dataset="user/examples"), "pool")
    found["pool_by_recipe"] = dataset_hash(by_recipe)
    found["tables"] = {
        name: dataset_hash(load_dataset(f"user/{repo}", name, split="train"))
        for repo, name in {"beams": "beams", "rollouts": "rollouts"}.items()
    }
    found["rollouts"] = read_table("user/rollouts", "rollouts", "train", ROLLOUTS)[0]["behaviour_logprobs"]
    found["changing"] = [
        {
            "splits": splits_of("user/changing", "ledger", revision),
            "recipe": table_provenance("user/changing", revision)["recipe"]["splits"],
            "rows": read_table("user/changing", "ledger", "train", LEDGER, revision)["query_id"][:],
        }
        for revision in (*changing, None)
    ]
    found["selectors"] = {
        name: select(f"user/{name}", pool, queries, folder) for name in ("selector", "copy", "parts")
    }
    output = run(folder, "user/beams", beams_revision=beams_commit, dry_run=True, output_dir=str(folder / "dry"))
    found["dry_run_wrote"] = (folder / "dry").exists() or output != folder / "sft"
    assert SEARCH["encoder"] == found["selectors"]["selector"]["encoder"]
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])))
