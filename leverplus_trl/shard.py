# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The part of a job that a launch does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """
    The part of a job that one launch of a job array does: every `count`-th unit of work.

    Args:
        index (`int`, *optional*, defaults to 0):
            Which part, counted from 0.
        count (`int`, *optional*, defaults to 1):
            Number of parts; 1 is the whole job.
    """

    index: int = 0
    count: int = 1

    @property
    def is_part(self) -> bool:
        return self.count > 1

    def takes(self, number: int) -> bool:
        """Whether the unit of this number, counted from 0, is one of this part's."""
        return number % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"
