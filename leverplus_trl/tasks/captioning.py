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

"""Image captioning: an image in, a sentence out, held against several people's."""

from .vqa import VQATask


class CaptioningTask(VQATask):
    """
    An image with a request in place of a question; all reference captions stand in `answers`.

    CIDEr weighs words by how rare they are in the references of the examples that are scored: call
    `use_references(examples)` before `accuracy`. Its values are in 0..10.
    """

    default_metric = "cider"
    metrics = ("cider",)
