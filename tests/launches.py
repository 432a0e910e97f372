# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Launches of several processes, and worse, in a test: forked, so that nothing is imported twice."""

import multiprocessing
import os
import signal
import socket
import time

from accelerate import PartialState


CONTEXT = multiprocessing.get_context("fork")


class Launch:
    """
    Calls a function in several processes that find each other as those of `torchrun` do.

    Args:
        count (`int`):
            Number of processes.
        target (`Callable`):
            What each of them calls.
        *args:
            What with.
    """

    def __init__(self, count, target, *args):
        port = free_port()
        self.processes = [
            CONTEXT.Process(target=_join, args=(rank, count, port, target, args)) for rank in range(count)
        ]
        for process in self.processes:
            process.start()

    def is_alive(self):
        return any(process.is_alive() for process in self.processes)

    def kill(self, rank):
        """Kills one process; the others are asked to end, as a launcher does. Returns whether it still was there."""
        self.processes[rank].kill()
        self.processes[rank].join()
        for process in self.processes:
            process.terminate()
        self.wait()
        return self.processes[rank].exitcode == -signal.SIGKILL

    def wait(self, timeout=300):
        """Waits until all are through and gives their exit statuses."""
        latest = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(0.0, latest - time.monotonic()))
            if process.is_alive():
                process.kill()
                raise TimeoutError(f"A process was still there after {timeout} s.")
        return [process.exitcode for process in self.processes]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _join(rank, count, port, target, args):
    PartialState._reset_state()  # that of the tests' own process
    if count > 1:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ |= {name: str(value) for name, value in {**places, "MASTER_PORT": port}.items()}
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    state = PartialState(cpu=True)
    assert state.num_processes == count
    target(*args)
    state.destroy_process_group()


def wait_for(condition, timeout=200.0):
    """Waits until `condition()` holds."""
    latest = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > latest:
            raise TimeoutError(f"Not so after {timeout} s.")
        time.sleep(0.002)
