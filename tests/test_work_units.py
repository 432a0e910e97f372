# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import units_worker
from launches import Launch, free_port, wait_for
from units_worker import RECIPE, UNITS, do_units

from leverplus_trl import output_files, work_units
from leverplus_trl.run_folder import RunFolder, Shard
from leverplus_trl.work_units import files_by_split, read_unit, run_units, units_of


def result(folder):
    """Names and bytes of all that was made."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (folder / "units").glob("*.parquet")}


def begun(folder):
    """`(process id, rank, unit)` of everything that was begun, in order."""
    file = folder / "begun"
    return [tuple(line.split()) for line in file.read_text().splitlines()] if file.exists() else []


def test_units_cover_the_queries_in_order_and_their_files_are_found_by_split(tmp_path):
    units = units_of("dev-2014", 7, 3) | units_of("test", 2, 3) | units_of("none", 0, 3)
    assert list(units) == ["dev-2014-000000", "dev-2014-000001", "dev-2014-000002", "test-000000"]
    assert [unit.split for unit in units.values()] == ["dev-2014"] * 3 + ["test"]
    assert [list(unit.rows) for unit in units.values()] == [[0, 1, 2], [3, 4, 5], [6], [0, 1]]
    files = [tmp_path / f"{name}.parquet" for name in units]
    assert files_by_split(["test", "none", "dev-2014"], files) == {
        "test": files[3:],
        "none": [],
        "dev-2014": files[:3],
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert Launch(1, do_units, folder).wait() == [0]
    assert len(result(folder)) == len(UNITS) == 40
    return result(folder)


@pytest.mark.parametrize("count", [2, 3])
def test_each_unit_is_done_once_whatever_the_number_of_processes(count, undisturbed, tmp_path):
    assert Launch(count, do_units, tmp_path).wait() == [0] * count
    assert result(tmp_path) == undisturbed
    assert sorted(name for *_, name in begun(tmp_path)) == sorted(UNITS)
    assert len({rank for _, rank, _ in begun(tmp_path)}) == count
    assert {path.name for path in (tmp_path / "units").iterdir()} == {"units.json", *result(tmp_path)}


def test_units_are_taken_so_a_slow_process_does_fewer(undisturbed, tmp_path):
    assert Launch(2, do_units, tmp_path, Shard(), {0: 0.01, 1: 0.15}).wait() == [0, 0]
    assert result(tmp_path) == undisturbed
    share = Counter(rank for _, rank, _ in begun(tmp_path))
    assert share["1"] >= 1 and share["0"] >= 3 * share["1"]


def test_processes_killed_at_random_moments_lose_what_they_had_in_hand_and_no_more(undisturbed, tmp_path):
    """One process is killed, the launcher ends the others, and another number of processes goes on."""
    generator = random.Random(0)
    in_hand = 0
    for number, count in enumerate((2, 1, 3, 2, 1, 3, 2)):
        before = len(result(tmp_path))
        launch = Launch(count, do_units, tmp_path)
        wait_for(lambda: not launch.is_alive() or len(result(tmp_path)) >= before + number % 3)  # noqa: B023
        time.sleep(generator.random() * 0.05)
        assert launch.kill(generator.randrange(count))
        in_hand += count
        assert before <= len(result(tmp_path)) < len(UNITS)
    assert Launch(3, do_units, tmp_path).wait() == [0, 0, 0]
    assert result(tmp_path) == undisturbed
    assert len(UNITS) < len(begun(tmp_path)) <= len(UNITS) + in_hand
    assert {path.name for path in (tmp_path / "units").iterdir()} == {"units.json", *undisturbed}


def test_shards_that_run_together_do_their_own_and_leave_each_other_alone(undisturbed, tmp_path):
    shards = [Launch(2, do_units, tmp_path, Shard(index, 3)) for index in range(3)]
    assert [shard.wait() for shard in shards] == [[0, 0]] * 3
    assert result(tmp_path) == undisturbed
    assert sorted(name for *_, name in begun(tmp_path)) == sorted(UNITS)


def test_a_shard_sweeps_what_it_left_itself_and_nothing_of_another(undisturbed, tmp_path):
    units = tmp_path / "units"
    units.mkdir()
    other, own = units / ".unfinished-11-of-3-x", units / ".unfinished-1-of-3-x"  # names that only look alike
    for left in (other, own):
        left.mkdir()
        (left / "train-000000.parquet").touch()
    assert Launch(1, do_units, tmp_path, Shard(1, 3)).wait() == [0]
    assert {path.name for path in units.glob(".*")} == {other.name}
    assert list(result(tmp_path)) and set(result(tmp_path)) == {f"{name}.parquet" for name in list(UNITS)[1::3]}


def test_the_lock_of_a_folder_is_shared_by_different_shards_alone(tmp_path):
    first = RunFolder(str(tmp_path), "beams", RECIPE, shard=Shard(0, 3))
    second = RunFolder(str(tmp_path), "beams", RECIPE, shard=Shard(1, 3))
    with pytest.raises(ValueError, match=r"Another launch is writing into .*\.lock-1-of-3 is locked"):
        RunFolder(str(tmp_path), "beams", RECIPE, shard=Shard(1, 3))
    with pytest.raises(ValueError, match=r"Another launch is writing into .*\(\.lock-0-of-3 is locked"):
        RunFolder(str(tmp_path), "beams", RECIPE)
    del first, second
    whole = RunFolder(str(tmp_path), "beams", RECIPE)
    with pytest.raises(ValueError, match="Another launch is writing into"):
        RunFolder(str(tmp_path), "beams", RECIPE, shard=Shard(0, 3))
    (tmp_path / "README.md").touch()
    del whole
    with pytest.raises(ValueError, match=r"another recipe \(seed: 0 there, 1 here\)"):
        RunFolder(str(tmp_path), "beams", {"seed": 1}, shard=Shard(0, 3))


def test_shards_leave_the_same_record_as_a_whole_and_a_log_each(tmp_path):
    for name, shard in {"whole": Shard(), "part": Shard(2, 4)}.items():
        recipe = {**RECIPE, "num_shards": shard.count, "shard_index": shard.index if shard.is_part else None}
        run = RunFolder(str(tmp_path / name), "beams", recipe, shard=shard)
        (run.path / "README.md").touch()
        del run
    for file in ("recipe.yaml", "provenance.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "part" / file).read_bytes()
    assert (tmp_path / "part" / "run-2-of-4.log").exists() and not (tmp_path / "part" / "run.log").exists()


def test_what_another_machine_wrote_is_waited_for(tmp_path, monkeypatch):
    """A network file system shows it late; only after a while it counts as missing."""
    run = RunFolder(str(tmp_path), "beams", RECIPE)
    monkeypatch.setattr(work_units, "_claim", lambda _: False)  # all units are another machine's
    monkeypatch.setattr(work_units, "PATIENCE", 0.0)
    with pytest.raises(RuntimeError, match="is missing, though its unit was taken"):
        work_units.run_units(run, {"a": 1}, lambda _: pytest.fail("not ours"), "Testing")
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            (run.units / "a.parquet").touch()

    monkeypatch.setattr(work_units, "PATIENCE", 60.0)
    monkeypatch.setattr(work_units.time, "sleep", sleep)
    assert work_units.run_units(run, {"a": 1}, lambda _: pytest.fail("not ours"), "Testing")[0].exists()
    assert len(slept) == 3


def test_a_unit_that_is_not_whole_is_done_again(tmp_path, caplog):
    """Cut off by a copy, or empty after a power failure."""
    run = RunFolder(str(tmp_path), "beams", RECIPE)
    made = []

    def work(name):
        made.append(name)
        return pa.table({"unit": [name]})

    files = run_units(run, {"a": 1, "b": 1, "c": 1}, work, "Testing")
    whole = [file.read_bytes() for file in files]
    files[0].write_bytes(whole[0][:-20])
    files[1].write_bytes(b"")
    made.clear()
    run_units(run, {"a": 1, "b": 1, "c": 1}, work, "Testing")
    assert made == ["a", "b"] and [file.read_bytes() for file in files] == whole
    assert "a.parquet is not whole" in caplog.text and "this unit of work is done again" in caplog.text


def test_a_unit_that_can_not_be_read_is_named(tmp_path):
    file = tmp_path / "lr=3" / "a.parquet"
    file.parent.mkdir()
    pq.write_table(pa.table({"unit": ["a" * 1000]}), file)
    assert read_unit(file).column_names == ["unit"]
    content = bytearray(file.read_bytes())
    content[4:60] = bytes(56)
    for damaged in (content, content[:100], b""):
        file.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"a.parquet', can't be read .* Delete that file and run the same command"
        ):
            read_unit(file)
    file.unlink()
    with pytest.raises(ValueError, match=r"a.parquet', can't be read \(.*No such file"):
        read_unit(file)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_run_that_is_interrupted_keeps_its_units_and_leaves_nothing_unfinished(tmp_path, interruption, monkeypatch):
    run = RunFolder(str(tmp_path), "beams", RECIPE)
    write = pq.write_table

    def interrupted(table, where):
        write(table, where)
        if table["unit"][0].as_py() == "b":
            raise interruption

    units = {"a": 1, "b": 1, "c": 1}
    with monkeypatch.context() as patch:
        patch.setattr(work_units.pq, "write_table", interrupted)
        with pytest.raises((KeyboardInterrupt, OSError)) as caught:
            run_units(run, units, lambda name: pa.table({"unit": [name]}), "Testing")
    if isinstance(interruption, OSError):
        assert f"{str(run.units / 'b.parquet')!r} can't be written (No space left on device)" in str(caught.value)
    assert {file.name for file in run.units.iterdir()} == {"a.parquet", "units.json"}
    run_units(run, units, lambda name: pa.table({"unit": [name]}), "Testing")
    assert len(list(run.units.glob("*.parquet"))) == 3


def test_a_process_that_outlives_its_launch_adds_no_unit(tmp_path):
    """Another launch may have taken the folder meanwhile, with another recipe."""
    run = RunFolder(str(tmp_path), "beams", RECIPE)

    def work(name):
        (left,) = run.units.glob(".unfinished-*")
        output_files.delete(left)
        return pa.table({"unit": [name]})

    with pytest.raises(OSError, match=r"a.parquet' can't be written \(.*No such file"):
        run_units(run, {"a": 1}, work, "Testing")
    assert [file.name for file in run.units.iterdir()] == ["units.json"]


def test_a_file_where_units_belong_is_named(tmp_path):
    run = RunFolder(str(tmp_path), "beams", RECIPE)
    run.units.touch()
    with pytest.raises(OSError, match=r"can't be written \((File exists|Not a directory)\)"):
        run_units(run, {"a": 1}, lambda _: pytest.fail("nothing to write it to"), "Testing")


def torchrun(folder, *options, pause=0.2):
    """The same work under the real launcher."""
    command = [sys.executable, "-m", "torch.distributed.run", *options, units_worker.__file__, str(folder), str(pause)]
    with open(folder / "output", "w") as output:  # not a pipe: processes may outlive the launcher
        return subprocess.Popen(command, stdout=output, stderr=output)


LOCAL = ("--nnodes", "1", "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["rank 0", "rank 1", "launcher"])
def test_under_torchrun_a_killed_process_costs_what_was_in_hand(victim, undisturbed, tmp_path):
    generator = random.Random(victim)
    launcher = torchrun(tmp_path, *LOCAL, "--nproc_per_node", "2")
    wait_for(lambda: len({rank for _, rank, _ in begun(tmp_path)}) == 2)
    time.sleep(generator.random())
    ranks = {f"rank {rank}": int(process) for process, rank, _ in begun(tmp_path)}
    os.kill(ranks.get(victim, launcher.pid), signal.SIGKILL)
    assert launcher.wait(300) != 0 and len(result(tmp_path)) < len(UNITS)
    latest = time.monotonic() + 120
    while True:
        again = torchrun(tmp_path, *LOCAL, "--nproc_per_node", "3" if victim == "rank 0" else "1", pause=0.0)
        if again.wait(300) == 0:
            break
        output = (tmp_path / "output").read_text()
        # Processes that outlive their launcher go on, and hold the lock.
        assert victim == "launcher" and "Another launch is writing into" in output and time.monotonic() < latest
    assert result(tmp_path) == undisturbed
    assert len(begun(tmp_path)) <= len(UNITS) + 2


@pytest.mark.slow
def test_two_machines_that_share_a_folder(undisturbed, tmp_path):
    """Two launchers that meet as those of two machines do."""
    meet = ("--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_id", "7")
    meet += ("--rdzv_endpoint", f"localhost:{free_port()}")
    machines = [torchrun(tmp_path, *meet, pause=0.1) for _ in range(2)]
    assert [machine.wait(300) for machine in machines] == [0, 0], (tmp_path / "output").read_text()
    assert result(tmp_path) == undisturbed
    assert sorted(name for *_, name in begun(tmp_path)) == sorted(UNITS)  # each was done once
    assert {rank for _, rank, _ in begun(tmp_path)} == {"0", "1"}
