# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

from datasets import Dataset

from leverplus_trl.provenance import dataset_hash
from leverplus_trl.rollouts.rollout_reuse import (
    ANSWER_FACTS,
    ANSWER_KEYS,
    PROMPT_FACTS,
    PROMPT_KEYS,
    differences,
)


def test_cider_over_another_corpus_is_another_number_but_the_same_probability():
    examples = Dataset.from_dict({"id": ["q"], "answers": [["a dog"]]})
    facts = {"query_hashes": {"train": dataset_hash(examples)}}
    before = {"recipe": {}, "facts": facts | {"reference_hashes": {"train": "one"}}}
    now = facts | {"reference_hashes": {"train": "one", "validation": "two"}}
    found = differences(before, {}, now, ANSWER_KEYS, ANSWER_FACTS, "train", examples)
    assert len(found) == 1 and found[0].startswith("reference_hashes: {'train': 'one'} there, {'train': 'one', ")
    assert differences(before, {}, now, PROMPT_KEYS, PROMPT_FACTS, "train", examples) == []
    assert differences({**before, "facts": now}, {}, now, ANSWER_KEYS, ANSWER_FACTS, "train", examples) == []
