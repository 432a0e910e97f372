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
