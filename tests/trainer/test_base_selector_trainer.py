# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import os

import pytest
import torch
from safetensors.torch import load_file
from trainer.test_sft_script import beams, run

import leverplus_trl.trainer.base_selector_trainer as saving
from leverplus_trl.scripts.training import last_checkpoint
from leverplus_trl.selectors import SelectorProcessor
from leverplus_trl.trainer.base_selector_trainer import COMPLETE, written_whole


__all__ = ["beams"]  # a fixture

FILES = ("config.json", "model.safetensors", COMPLETE)


def save(folder, text):
    with written_whole(folder) as temporary:
        for name in FILES:
            (temporary / name).write_text(text)


def held(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_a_save_that_fails_leaves_the_old_files(tmp_path):
    save(tmp_path, "old")
    with pytest.raises(OSError, match="disk full"), written_whole(tmp_path) as temporary:
        (temporary / "model.safetensors").write_text("half")
        raise OSError("disk full")
    assert held(tmp_path) == dict.fromkeys(FILES, "old")
    save(tmp_path, "new")
    assert held(tmp_path) == dict.fromkeys(FILES, "new")


def test_a_process_killed_while_saving_leaves_nothing_that_counts(tmp_path, monkeypatch):
    save(tmp_path, "old")
    moved = []

    def die(source, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(target)
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(saving.os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, "new")
    assert len(moved) == 1 and not (tmp_path / COMPLETE).exists()
    # What is left of a process that could not clean up is not taken for part of the next save.
    left = tmp_path / ".unfinished-selector"
    left.mkdir()
    (left / "stale.json").write_text("stale")
    save(tmp_path, "new")
    assert held(tmp_path) == dict.fromkeys(FILES, "new")


def test_the_stage_goes_on_after_a_save_that_died(tmp_path, beams, monkeypatch):
    whole = SelectorProcessor.save_pretrained

    def die(self, folder, **kwargs):
        if folder.parent.name == "sft":  # not in a checkpoint
            raise OSError("disk full")
        return whole(self, folder, **kwargs)

    arguments = {"num_train_epochs": 2, "train_split": "train[:16]"}
    with monkeypatch.context() as patch:
        patch.setattr(SelectorProcessor, "save_pretrained", die)
        with pytest.raises(OSError, match="disk full"):
            run(tmp_path, beams, **arguments)
    output = tmp_path / "sft"
    assert not any((output / name).exists() for name in (*FILES, ".unfinished-selector"))
    run(tmp_path, beams, **arguments)
    assert all((output / name).exists() for name in FILES) and not list(output.rglob(".unfinished-*"))
    assert load_file(output / "model.safetensors")


def test_a_checkpoint_on_a_full_disk_is_named_and_the_last_whole_one_is_gone_on_from(tmp_path, beams, monkeypatch):
    """PyTorch says of a full disk that a position is unexpected."""
    write = torch.save

    def full(value, file, *rest, **options):
        if "checkpoint-2" in str(file):
            write(value, file, *rest, **options)
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 124032 vs 123984")
        write(value, file, *rest, **options)

    arguments = {"num_train_epochs": 2, "train_split": "train[:16]"}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match=r"checkpoint-2' can't be written \(.*unexpected pos"):
            run(tmp_path, beams, **arguments)
    assert last_checkpoint(tmp_path / "sft").endswith("checkpoint-1")
    run(tmp_path, beams, **arguments)
    assert (tmp_path / "sft" / COMPLETE).exists()
