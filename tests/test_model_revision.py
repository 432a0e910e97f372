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

import pytest

from leverplus_trl.provenance import model_revision


def test_a_folder_that_is_not_there_is_named_with_its_neighbour(tmp_path):
    (tmp_path / "vlm").mkdir()
    with pytest.raises(ValueError, match=r"There is no folder '.*vlmm'. Did you mean '.*/vlm'\?"):
        model_revision(str(tmp_path / "vlmm"))
    with pytest.raises(ValueError, match=r"There is no folder './nothing/like/it'. Name a folder that is there"):
        model_revision("./nothing/like/it")
