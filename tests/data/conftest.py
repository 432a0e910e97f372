# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Makes the scripts of the embedded world importable."""

import sys
from pathlib import Path


WORLD = Path(__file__).parents[2] / "data" / "concept_binding"
sys.path.insert(0, str(WORLD))
