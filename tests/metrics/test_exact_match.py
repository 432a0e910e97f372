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

import os

import pytest

from leverplus_trl.metrics.exact_match.exact_match import exact_match


@pytest.mark.parametrize(
    ("prediction", "answers", "folded", "strict"),
    [
        ("dog", ["cat", "dog"], 1, 1),
        (" Hot \n dog", ["hot dog"], 1, 0),
        ("hotdog", ["hot dog"], 0, 0),
        ("dog.", ["dog"], 0, 0),
        ("", ["dog"], 0, 0),
    ],
)
def test_exact_match(prediction, answers, folded, strict):
    assert exact_match(prediction, answers) == folded
    assert exact_match(prediction, answers, strict=True) == strict


def test_bad_input():
    with pytest.raises(ValueError, match="No answer"):
        exact_match("dog", [])
    with pytest.raises(TypeError, match="list of strings"):
        exact_match("dog", "dog")


def test_evaluate_loads_it_offline(tmp_path, monkeypatch):
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    monkeypatch.chdir(os.path.join(os.path.dirname(__file__), "..", ".."))
    metric = evaluate.load("leverplus_trl/metrics/exact_match", cache_dir=str(tmp_path))
    predictions, references = ["Dog", "cat", "cow"], [["dog"], ["cow", "cat"], ["horse"]]
    result = metric.compute(predictions=predictions, references=references)
    assert result == {"exact_match": pytest.approx(2 / 3), "per_example": [1, 1, 0]}
    result = metric.compute(predictions=predictions, references=references, strict=True)
    assert result["per_example"] == [0, 1, 0]
