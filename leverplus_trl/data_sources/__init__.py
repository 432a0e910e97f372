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

"""
Published datasets as examples tables: a file for each family, which knows its official files and its hub datasets.

A new one is a file with a [`DataSource`], an entry in `DATA_SOURCES`, and its name in `names.py`.
"""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "data_source": ("DataSource", "example", "image_file"),
        "names": ("DATASETS",),
        "preparation": ("PreparedSplit", "cut_splits", "find_problems", "finish"),
        "raw_files": ("RawFiles",),
        "reading": ("read_files", "read_hub"),
        "sources": ("DATA_SOURCES",),
    },
)
