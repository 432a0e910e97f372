# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the stage `grpo`."""

from dataclasses import dataclass

from ..fields import check_fields, documented, option


@documented
@dataclass
class GRPOArguments:
    """
    Selector and rollouts: which selector learns from what.

    Candidates, insertion and encoder are those of the selector.
    """

    selector: str = option("Folder or hub id of the selector to go on from. The stage `sft` makes it.", path="folder")
    rollouts: str = option("Folder or hub id of the rollouts table.", path="folder")
    selector_revision: str | None = option("Hub revision of the selector.", None)
    rollouts_revision: str | None = option("Hub revision of the rollouts.", None)
    train_split: str = option("Split of the rollouts to learn from. Slices such as train[:100] work.", "train")
    eval_split: str | None = option(
        "Split of the rollouts that chooses the best weights; null for none. Without one, the last weights are kept.",
        "validation",
    )
    encoder: str | None = option(
        "Where the selector's encoder lies by now. If not given, where it was when the selector was trained.",
        None,
        path="folder",
    )
    encoder_revision: str | None = option("Its hub revision.", None)
    encoder_batch_size: int = option("Examples embedded at once.", 64, min=1)
    embeddings_dir: str | None = option("Where embeddings are kept.", None, path="folder")
    cache_mb: int = option("Memory for prepared images, for v2_lora.", 4096, min=0)

    def __post_init__(self):
        check_fields(self)
