# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Seconds and peak memory of what every table passes through, at the size of VQAv2's training set.

```bash
python benchmarks/big_tables.py                      # 443,757 rows
```

Examples without images are made, then read as a recipe would; their content is hashed, candidates are drawn for all of
them from all of them, and units of work of as many queries, each with the row of its beams and one ledger row a
candidate, are analysed and joined to the beams and ledger tables. No VLM runs. Each step runs in a process of its own.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from leverplus_trl.beams.beam_analysis import write_analysis
from leverplus_trl.beams.beam_generation import write_beam_dataset
from leverplus_trl.provenance import dataset_hash
from leverplus_trl.retrieval import CandidateSampler
from leverplus_trl.tasks import DataArguments, load_examples


STEPS = ("make", "read", "hash", "draw", "make_units", "analyse", "join")
UNIT = 256


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_rows", type=int, default=443_757)
    parser.add_argument("--num_candidates", type=int, default=32, help="K, and ledger rows of a query.")
    parser.add_argument("--step", choices=STEPS, help="Do this one alone, in --folder.")
    parser.add_argument("--folder", type=Path)
    return parser.parse_args(argv)


def example_rows(number: int) -> Iterator[dict]:
    """Questions of about ten words with ten answers, as in VQAv2."""
    generator = np.random.default_rng(0)
    words = [f"word{i}" for i in range(5000)]
    for row in range(number):
        chosen = generator.integers(len(words), size=20)
        answers = [words[one] for one in chosen[10:]]
        question = " ".join(words[one] for one in chosen[:10])
        yield {"id": f"q{row}", "question": f"{question}?", "answer": answers[0], "answers": answers}


def unit_row(query: str, candidates: list[str]) -> dict:
    entries = [([], -2.0), *(([name], -2.0 + 0.01 * (hash(name) % 97)) for name in candidates)]
    return {
        "query_id": query,
        "split": "train",
        "candidate_ids": candidates,
        "demonstration_ids": [[name] for name in candidates[:5]],
        "scores": [0.5, 0.4, 0.3, 0.2, 0.1],
        "step_scores": [[0.5], [0.4], [0.3], [0.2], [0.1]],
        "zero_shot_score": 0.1,
        "ledger": [
            {"demonstration_ids": ids, "answer_logprob": value, "num_answer_tokens": 2, "accuracy": None}
            for ids, value in entries
        ],
    }


def do(step: str, folder: Path, number: int, num_candidates: int) -> str:
    """One step; returns what it made, in a word."""
    source = folder / "examples.parquet"
    if step == "make":
        Dataset.from_generator(example_rows, gen_kwargs={"number": number}, cache_dir=str(folder)).to_parquet(source)
        return f"{source.stat().st_size / 1e6:.0f} MB"
    if step in ("read", "hash", "draw"):
        examples = load_examples(DataArguments(dataset="parquet", data_files={"train": str(source)}), "train")
        if step == "read":
            return f"{len(examples):,} rows"
        if step == "hash":
            return dataset_hash(examples)
    ids = [f"q{row}" for row in range(number)]
    files = [folder / "units" / f"train-{start // UNIT:06d}.parquet" for start in range(0, number, UNIT)]
    if step == "analyse":
        return (
            f"{write_analysis(folder, {'train': files}, 'left', 'prob')['splits']['train']['num_queries']:,} queries"
        )
    if step == "join":
        write_beam_dataset(folder, {"train": files}, {"stage": "beams", "recipe": {}, "facts": {}, "versions": {}})
        rows = sum(pq.read_metadata(file).num_rows for file in (folder / "data").glob("*.parquet"))
        return f"{rows:,} rows"
    candidates = CandidateSampler(ids, "random", num_candidates).sample(ids)
    if step == "make_units":
        files[0].parent.mkdir()
        for file in files:
            start = int(file.stem[-6:]) * UNIT
            rows = zip(ids[start : start + UNIT], candidates[start : start + UNIT], strict=True)
            pq.write_table(pa.Table.from_pylist([unit_row(*row) for row in rows]), file)
    return f"{len(candidates):,} x {num_candidates}"


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.step:
        start = time.monotonic()
        made = do(args.step, args.folder, args.num_rows, args.num_candidates)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{args.step:<12} {time.monotonic() - start:>8.1f} s {peak:>8.0f} MB   {made}", flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        for step in STEPS:
            own = ["--step", step, "--folder", folder, "--num_rows", str(args.num_rows)]
            subprocess.run(
                [sys.executable, __file__, *own, "--num_candidates", str(args.num_candidates)],
                check=True,
                env={**os.environ, "HF_HOME": folder, "PYTHONHASHSEED": "0"},
            )


if __name__ == "__main__":
    main()
