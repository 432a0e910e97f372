# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""Files are written whole or named, on any system."""

import ast
import sys

import pytest
from datasets import Dataset
from paths import ROOT
from safetensors import SafetensorError

from leverplus_trl.output_files import WriteError, delete, replacing, write_atomically, write_json
from leverplus_trl.tables import write_tables
from leverplus_trl.trainer.base_selector_trainer import written_whole


#: Of the standard library, but not of Windows'.
POSIX_MODULES = {"crypt", "fcntl", "grp", "pty", "pwd", "readline", "resource", "spwd", "syslog", "termios", "tty"}
POSIX_NAMES = {
    "fork",
    "getuid",
    "geteuid",
    "killpg",
    "mkfifo",
    "setsid",
    "SIGKILL",
    "SIGHUP",
    "SIGALRM",
    "sched_setaffinity",
}
MODULES = sorted((ROOT / "leverplus_trl").rglob("*.py"))


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_asks_for_what_windows_lacks(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    choices = [node for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp)]
    guarded = {part for node in choices if "os.name" in ast.unparse(node.test) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if node in guarded:
            continue
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & POSIX_MODULES, node.lineno
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module.split(".")[0] not in POSIX_MODULES, node.lineno
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "signal")
        ):
            assert node.attr not in POSIX_NAMES, node.lineno


def test_posix_modules_are_those_of_this_python():
    assert "fcntl" in POSIX_MODULES and POSIX_MODULES - {"crypt", "spwd"} <= set(sys.stdlib_module_names)


def full(*_, **__):
    raise OSError(28, "No space left on device")


def test_a_file_that_can_not_be_written_is_named_and_the_old_one_kept(tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    write_json(file, {"a": 1})
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(
            WriteError, match=r"results.json' can't be written \(No space left on device\). The work so far"
        ):
            write_json(file, {"a": 2})
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]
    with pytest.raises(WriteError, match=r"below' can't be written \((Not a directory|File exists)\)"):
        write_atomically(file / "below", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match=r"folder' can't be written \(Is a directory\)"):
        write_atomically(tmp_path / "folder", b"")


def test_an_interrupted_file_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["to_parquet", "card"])
def test_tables_on_a_full_disk_are_named_and_leave_the_old_ones(tmp_path, monkeypatch, where):
    def write(value):
        return write_tables(tmp_path, {"beams": {"train": Dataset.from_dict({"id": [value]})}}, "Title", "Text", {})

    write("old")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(*(("datasets.Dataset.to_parquet", full) if where == "to_parquet" else ("os.fsync", full)))
        with pytest.raises(WriteError, match=r"can't be written \(No space left on device\)"):
            write("new")
    assert {file: file.read_bytes() for file in before} == before
    assert not list(tmp_path.rglob(".unfinished-*"))
    write("new")
    assert len(list((tmp_path / "data").iterdir())) == 1  # what the failed run had finished is gone, too


def test_a_selector_on_a_full_disk_is_named(tmp_path):
    """Safetensors raise an error of their own."""
    for error in (OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device")):
        message = r"can't be written \(.*No space left on device\)"
        with pytest.raises(WriteError, match=message), written_whole(tmp_path / "sft"):
            raise error
        assert list((tmp_path / "sft").iterdir()) == []


def test_delete_takes_files_links_and_folders(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    for name in ("link", "folder", "missing"):
        delete(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and (tmp_path / "kept" / "file").exists()
