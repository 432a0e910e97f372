# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

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
