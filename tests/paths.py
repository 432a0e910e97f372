# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Where things are in the repository."""

from pathlib import Path


ROOT = Path(__file__).parent.parent
WORLD = ROOT / "data" / "concept_binding"
