# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The names of the metrics, for those who need no more of them."""

METRIC_NAMES = (
    "exact_match",
    "cover_exact_match",
    "token_f1",
    "accuracy",
    "vqa_accuracy",
    "vqa_accuracy_normalized",
    "okvqa_accuracy",
    "anls",
    "cider",
    "option_accuracy",
    "scienceqa_accuracy",
    "mmbench_accuracy",
    "gsm8k_strict",
    "gsm8k_flexible",
)
