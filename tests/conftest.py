# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import os

import pytest
from fake_hub import FakeHub
from paths import WORLD


# Before torch is imported: workers of pytest share few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def embeddings_dir(tmp_path_factory):
    """Embeddings of the tests stay out of the user's cache."""
    return str(tmp_path_factory.mktemp("embeddings"))


@pytest.fixture(scope="module")
def fake_hub():
    """
    A hub in memory. `huggingface_hub` reads the endpoint when it is imported, so it is for processes that are started
    with `env=fake_hub.environment(hf_home)`.
    """
    with FakeHub() as hub:
        yield hub


@pytest.fixture(scope="session")
def world():
    """The embedded world as examples: `{split: Dataset}`."""
    from leverplus_trl.tasks import DataArguments, load_examples

    data_args = DataArguments(dataset=str(WORLD), pool_split="pool")
    return {split: load_examples(data_args, split) for split in ("pool", "train", "validation", "test")}


@pytest.fixture(scope="session")
def concept_vlm():
    """The embedded VLM."""
    from leverplus_trl.tasks import TaskArguments, make_task
    from leverplus_trl.vlms import VLMArguments, load_vlm

    task = make_task(TaskArguments(task="vqa", metric="exact_match", max_new_tokens=4))
    return load_vlm(VLMArguments(vlm=str(WORLD / "vlm"), max_batch_tokens=1024), task)
