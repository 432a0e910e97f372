# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import pytest

from leverplus_trl.provenance import model_revision


def test_a_folder_that_is_not_there_is_named_with_its_neighbour(tmp_path):
    (tmp_path / "vlm").mkdir()
    with pytest.raises(ValueError, match=r"There is no folder '.*vlmm'. Did you mean '.*/vlm'\?"):
        model_revision(str(tmp_path / "vlmm"))
    with pytest.raises(ValueError, match=r"There is no folder './nothing/like/it'. Name a folder that is there"):
        model_revision("./nothing/like/it")
