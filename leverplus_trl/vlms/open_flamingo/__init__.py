# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""OpenFlamingo: its model, the language model of OpenFlamingo-3B, its family, the conversion of its checkpoints."""
