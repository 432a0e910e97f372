# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

import pytest
from datasets import Dataset
from PIL import Image

from leverplus_trl.evaluation.evaluation import summarize
from leverplus_trl.report.evaluations import Evaluation
from leverplus_trl.schema import EXAMPLES, PREDICTIONS


NUM_QUERIES = 20
#: method -> number of right answers of the 20, by shots
RIGHT = {
    "zero_shot": {0: 1},
    "random": {1: 4, 2: 5},
    "text_sim": {1: 5, 2: 6},
    "image_text_sim": {1: 9, 2: 10},
    "selector": {1: 10, 2: 19},
    "oracle": {1: 15, 2: 20},
    "random_pool": {1: 3, 2: 4},
    "image_text_sim_pool": {1: 8, 2: 11},
}
ABOUT = {"name": "demo", "dataset": "world", "vlm": "tiny VLM", "task": "vqa", "metric": "exact_match"}


@pytest.fixture
def predictions():
    """Query `q<i>` is answered right if i is under the number of right answers."""
    rows = []
    for method, by_shots in RIGHT.items():
        for shots, right in by_shots.items():
            for query in range(NUM_QUERIES):
                start = 3 * query + len(method)
                rows.append(
                    {
                        "query_id": f"q{query}",
                        "split": "test",
                        "method": method,
                        "shots": shots,
                        "seed": 0,
                        "candidate_ids": [],
                        "demonstration_ids": [f"p{(start + shot) % 40}" for shot in range(shots)],
                        "generation": " right" if query < right else " off",
                        "prediction": "right" if query < right else "off",
                        "accuracy": float(query < right),
                        "confidence": (query + 1) / NUM_QUERIES if method == "zero_shot" else None,
                    }
                )
    return Dataset.from_list(rows, features=PREDICTIONS)


@pytest.fixture
def results(predictions):
    return summarize(predictions, **ABOUT, provenance={"vlm_revision": "abc123"})


@pytest.fixture
def evaluation(results, predictions):
    return Evaluation(None, Path("evaluation"), results, predictions)


@pytest.fixture
def captions(predictions):
    """The same queries scored by CIDEr: 1.875 where they were right, else 0.25."""
    scored = predictions.map(lambda row: {"accuracy": 1.875 if row["accuracy"] else 0.25})
    about = ABOUT | {"task": "captioning", "metric": "cider"}
    return Evaluation(None, Path("captions"), summarize(scored, **about), scored)


def _examples(prefix, count):
    return Dataset.from_list(
        [
            {
                "id": f"{prefix}{row}",
                "image": Image.new("RGB", (8, 8), (row, 0, 255)),
                "question": f"question of {prefix}{row} ?",
                "answer": f"answer of {prefix}{row}",
                "answers": [f"answer of {prefix}{row}"],
            }
            for row in range(count)
        ],
        features=EXAMPLES,
    )


@pytest.fixture
def queries():
    return _examples("q", NUM_QUERIES)


@pytest.fixture
def pool():
    return _examples("p", 40)


@pytest.fixture
def beams():
    return Dataset.from_dict(
        {
            "split": ["train", "train", "test"],
            "scores": [[0.9, 0.5], [0.7, 0.3], [0.4]],
        }
    )
