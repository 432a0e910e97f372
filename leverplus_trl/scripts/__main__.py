# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""`python -m leverplus_trl.scripts STAGE --config RECIPE.yaml`: a stage in this process; what a launcher launches."""

import sys

from ..launch import run_stage_here


if __name__ == "__main__":
    sys.exit(run_stage_here(sys.argv[1], sys.argv[2:]))
