# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Versions and devices, for bug reports and provenance."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version


PACKAGES = (
    *("leverplus_trl", "torch", "transformers", "datasets", "accelerate", "trl", "peft", "faiss-cpu", "numpy"),
    *("bitsandbytes", "open-flamingo"),
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose numerics or formats an output depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe() -> str:
    """What a bug report should say of this machine, a line each."""
    import torch

    count = torch.cuda.device_count()
    devices = [torch.cuda.get_device_name(number) for number in range(count)]
    facts = {
        **versions(),
        "platform": platform.platform(),
        "cpus": f"{os.cpu_count()}, {torch.get_num_threads()} threads of torch",
        "cuda": torch.version.cuda or "none",
        "gpus": ", ".join(devices) or "none",
    }
    return "\n".join(f"{name:<16}{value}" for name, value in facts.items())
