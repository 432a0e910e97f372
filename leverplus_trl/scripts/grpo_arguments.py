# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the stage `grpo`."""

from dataclasses import dataclass, field

from ..fields import check_fields


@dataclass
class GRPOArguments:
    """
    Selector and rollouts: which selector learns from what.

    Candidates, insertion and encoder are those of the selector.

    Args:
        selector (`str`):
            Folder or hub id of the selector to go on from: what the stage `sft` made.
        rollouts (`str`):
            Folder or hub id of the rollouts table.
        selector_revision (`str`, *optional*):
            Hub revision of the selector.
        rollouts_revision (`str`, *optional*):
            Hub revision of the rollouts.
        train_split (`str`, *optional*, defaults to `"train"`):
            Split of the rollouts to learn from; slices such as `"train[:100]"` work.
        eval_split (`str`, *optional*, defaults to `"validation"`):
            Split of the rollouts that chooses the best weights; null for none, which keeps the last.
        encoder (`str`, *optional*, defaults to that of the selector):
            Where the encoder lies, if not where it lay when the selector was trained.
        encoder_revision (`str`, *optional*):
            Its revision.
        encoder_batch_size (`int`, *optional*, defaults to 64):
            Examples embedded at once.
        embeddings_dir (`str`, *optional*):
            Where embeddings are kept.
        cache_mb (`int`, *optional*, defaults to 4096):
            Memory for prepared images, where the selector encodes them itself (v2_lora).
    """

    selector: str = field(metadata={"help": "Folder or hub id of the selector to go on from.", "path": "folder"})
    rollouts: str = field(metadata={"help": "Folder or hub id of the rollouts table.", "path": "folder"})
    selector_revision: str | None = field(default=None, metadata={"help": "Hub revision of the selector."})
    rollouts_revision: str | None = field(default=None, metadata={"help": "Hub revision of the rollouts."})
    train_split: str = field(default="train", metadata={"help": "Split of the rollouts to learn from."})
    eval_split: str | None = field(
        default="validation", metadata={"help": "Split of the rollouts that chooses the best weights; null for none."}
    )
    encoder: str | None = field(
        default=None, metadata={"help": "Where the selector's encoder lies by now.", "path": "folder"}
    )
    encoder_revision: str | None = field(default=None, metadata={"help": "Its hub revision."})
    encoder_batch_size: int = field(default=64, metadata={"help": "Examples embedded at once.", "min": 1})
    embeddings_dir: str | None = field(default=None, metadata={"help": "Where embeddings are kept.", "path": "folder"})
    cache_mb: int = field(default=4096, metadata={"help": "Memory for prepared images, for v2_lora.", "min": 0})

    def __post_init__(self):
        check_fields(self)
