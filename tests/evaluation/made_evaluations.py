# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Small evaluations made by hand: predictions tables, and the examples that they answer."""

import numpy as np
from datasets import Dataset
from PIL import Image

from leverplus_trl.schema import EXAMPLES, PREDICTIONS


ABOUT = {"name": "demo", "dataset": "world", "vlm": "tiny", "task": "vqa", "metric": "exact_match"}


def picture(seed: int, size: int = 64) -> Image.Image:
    """Eight by eight patches of random colours."""
    patches = np.random.default_rng(seed).integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((size, size), Image.Resampling.NEAREST)


def examples(rows: list[dict]) -> Dataset:
    """Examples from ids and whatever else matters; questions differ, images are missing."""
    made = []
    for row in rows:
        answer = row.get("answer", f"answer of {row['id']}")
        defaults = {"image": None, "question": f"question of {row['id']}?", "answer": answer, "answers": [answer]}
        made.append({**defaults, **row})
    return Dataset.from_list(made, features=EXAMPLES)


def answers(method: str, shots: int, by_query: dict[str, tuple], seed: int = 0, candidates=("a", "b", "c")) -> list:
    """Rows of one run from `{query id: (demonstration ids, prediction, accuracy)}`, and maybe a confidence."""
    return [
        {
            "query_id": query_id,
            "split": "test",
            "method": method,
            "shots": shots,
            "seed": seed,
            "candidate_ids": list(candidates),
            "demonstration_ids": list(chosen),
            "generation": prediction,
            "prediction": prediction,
            "accuracy": accuracy,
            "confidence": confidence[0] if confidence else None,
        }
        for query_id, (chosen, prediction, accuracy, *confidence) in by_query.items()
    ]


def table(*runs: list) -> Dataset:
    return Dataset.from_list([row for run in runs for row in run], features=PREDICTIONS)
