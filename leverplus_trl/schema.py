# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Columns and types of every table that passes between stages.

Ids are strings and the only way in which tables refer to each other; positions in a candidate pool exist only inside
tensors. `demonstration_ids` are in *prompt order*: left to right, the last demonstration next to the query.
"""

from datasets import Features, Image, List, Value


STRING = Value("string")
FLOAT = Value("float64")
SEQUENCE_OF_IDS = List(STRING)
_QUERY = {"query_id": STRING, "split": STRING}

#: The columns every examples table has; a task may need more (`choices`, `context`, ...).
EXAMPLES = Features(
    {
        "id": STRING,
        "image": Image(),
        "question": STRING,
        "answer": STRING,  # the scoring target
        "answers": List(STRING),  # all annotators
    }
)

#: One row a query: the best `B` sequences of a beam search, best first.
BEAMS = Features(
    {
        **_QUERY,
        "candidate_ids": SEQUENCE_OF_IDS,  # K, in sampler order
        "demonstration_ids": List(SEQUENCE_OF_IDS),  # B x S
        "scores": List(FLOAT),  # B, InfoScore on the scale `score` (of the whole sequence if `objective: cumulative`)
        "step_scores": List(List(FLOAT)),  # B x S, in selection order
        "zero_shot_score": FLOAT,  # the term that InfoScore subtracts
    }
)

#: One row a scored sequence; the zero-shot prompt is the row with no demonstrations. All scales of InfoScore can be
#: computed from it (`beams/info_score.py`), `metric` only where the search was on that scale.
LEDGER = Features(
    {
        **_QUERY,
        "demonstration_ids": SEQUENCE_OF_IDS,
        "answer_logprob": FLOAT,  # sum over the answer's tokens
        "num_answer_tokens": Value("int32"),
        "accuracy": FLOAT,  # the task's metric of the generated answer; null unless `score: metric`
    }
)

#: One row a query: a group of G sequences of 0 to S demonstrations, each answered once and measured.
ROLLOUTS = Features(
    {
        **_QUERY,
        "candidate_ids": SEQUENCE_OF_IDS,  # K
        "zero_shot_score": FLOAT,  # the term that InfoScore subtracts
        "demonstration_ids": List(SEQUENCE_OF_IDS),  # G x 0..S
        "sources": List(STRING),  # who proposed the sequence first
        "generations": List(STRING),
        "predictions": List(STRING),
        "accuracies": List(FLOAT),
        "gt_probs": List(FLOAT),  # expected accuracy of a sampled answer, see `rollout_generation.gt_prob`
        "relevances": List(FLOAT),
        "answer_logprobs": List(FLOAT),  # of `answer`, summed over its tokens
        "num_answer_tokens": List(Value("int32")),
        "behaviour_logprobs": List(FLOAT),  # null where the source has no density
    }
)

#: One row an answered prompt.
PREDICTIONS = Features(
    {
        **_QUERY,
        "method": STRING,
        "shots": Value("int32"),
        "seed": Value("int64"),
        "candidate_ids": SEQUENCE_OF_IDS,
        "demonstration_ids": SEQUENCE_OF_IDS,
        "generation": STRING,
        "prediction": STRING,
        "accuracy": FLOAT,
        "confidence": FLOAT,  # of zero-shot: answer_prob of its own prediction, see `inference.confidences`; else null
    }
)
