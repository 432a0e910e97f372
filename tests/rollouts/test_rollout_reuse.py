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

from datasets import Dataset

from leverplus_trl.provenance import dataset_fingerprint
from leverplus_trl.rollouts.rollout_reuse import (
    ANSWER_FACTS,
    ANSWER_KEYS,
    PROMPT_FACTS,
    PROMPT_KEYS,
    differences,
)


def test_cider_over_another_corpus_is_another_number_but_the_same_probability():
    examples = Dataset.from_dict({"id": ["q"], "answers": [["a dog"]]})
    facts = {"query_fingerprints": {"train": dataset_fingerprint(examples)}}
    before = {"recipe": {}, "facts": facts | {"reference_fingerprints": {"train": "one"}}}
    now = facts | {"reference_fingerprints": {"train": "one", "validation": "two"}}
    found = differences(before, {}, now, ANSWER_KEYS, ANSWER_FACTS, "train", examples)
    assert len(found) == 1 and found[0].startswith("reference_fingerprints: {'train': 'one'} there, {'train': 'one', ")
    assert differences(before, {}, now, PROMPT_KEYS, PROMPT_FACTS, "train", examples) == []
    assert differences({**before, "facts": now}, {}, now, ANSWER_KEYS, ANSWER_FACTS, "train", examples) == []
