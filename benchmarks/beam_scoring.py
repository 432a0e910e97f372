# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Scored sequences per second of a beam search, by four ways: same requests, same model, same run, parity asserted.

```bash
make benchmark
```

- `(a) one by one`: the stock processor and a full forward for each prompt, as the reference implementation of Lever-LM
does it
- `(b) batched`: padded batches through the stock processor, logits at all positions
- `(b2) preprocessed once`: the same, with every image preprocessed and every text tokenised once
- `(c) leverplus_trl`: what the stage `beams` does: every image encoded once, every prefix run once

A search by the VLM's own scores is recorded; all ways then score what it asked, taking turns. A way may be timed on a
part of the requests, drawn once, and says so. The batch size of (b) and (b2) is the fastest of some, found first.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from scoring_models import Setting, make_setting
from scoring_ways import Least, Shared, Whole, record

from leverplus_trl import Request


WAYS = ("(a) one by one", "(b) batched", "(b2) preprocessed once", "(c) leverplus_trl")
#: Nats between an answer's log-probability by any two ways.
PARITY = {"float32": 1e-4, "float64": 1e-4}
COARSE_PARITY = 2e-2  # bfloat16, float16
BATCH_SIZES = (8, 16, 32, 64, 128)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("embedded", "qwen2.5-vl-3b"), default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--num_queries", type=int, default=8, help="Queries of the unit.")
    parser.add_argument("--num_candidates", type=int, default=64, help="K")
    parser.add_argument("--beam_size", type=int, default=5, help="B")
    parser.add_argument("--shots", type=int, nargs="+", default=[2, 4], help="S, one table each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=int, nargs=2, default=[200, 1000], help="Requests of (a), and of (b) and (b2).")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--max_batch_tokens", type=int, default=2048, help="Of (c).")
    parser.add_argument("--memory_mb", type=int, help="Of (c).")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=BATCH_SIZES, help="Tried for (b) and (b2).")
    parser.add_argument("--pool_size", type=int, default=1000, help="Random examples of qwen2.5-vl-3b.")
    parser.add_argument("--image_size", type=int, default=448, help="Pixels of their images.")
    parser.add_argument("--no_memory", action="store_true", help="Leave peak memory out.")
    parser.add_argument("--small", action="store_true", help="A tiny model of qwen2.5-vl-3b's kind, for tests.")
    parser.add_argument("--memory_of", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def make_way(name: str, setting: Setting, calls: list[list[Request]], args, batch_size: int) -> Whole | Shared:
    if name == WAYS[3]:
        return Shared(setting, calls)
    requests = [request for call in calls for request in call]
    most = args.most[0] if name == WAYS[0] else args.most[1]
    rows = np.arange(len(requests))
    if most < len(requests):  # in the search's order, so that neighbours are about equally long
        rows = np.sort(np.random.default_rng(0).permutation(len(requests))[:most])
    chosen = [requests[row] for row in rows]
    return Whole(setting, chosen, 1 if name == WAYS[0] else batch_size, ahead=name == WAYS[2])


def timed(way: Whole | Shared, device: str) -> tuple[float, np.ndarray]:
    if isinstance(way, Shared):
        way.prepare()
    return run(way, device)


def run(way: Whole | Shared, device: str) -> tuple[float, np.ndarray]:
    """Seconds and values of a way that is ready."""
    gc.collect()
    wait(device)
    start = time.perf_counter()
    values = way.run()
    wait(device)
    return time.perf_counter() - start, values


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def best_batch_size(name: str, setting: Setting, calls: list[list[Request]], args) -> int:
    """The fastest for the longest prompts; what does not fit into memory is no candidate."""
    seconds = {}
    for size in args.batch_sizes:
        some = calls[-1][: max(args.batch_sizes)]
        try:
            way = make_way(name, setting, [some], args, size)
            seconds[size] = min(timed(way, args.device)[0] for _ in range(2))
        except torch.OutOfMemoryError:
            break
    return min(seconds, key=seconds.get)


def shown(request: Request) -> tuple[str, ...]:
    return tuple(example["id"] for example in request.demonstrations)


def check_parity(ways: dict[str, Whole | Shared], values: dict[str, np.ndarray], dtype: str) -> float:
    shared = {id(request.query): {} for request in ways[WAYS[3]].requests}
    for request, value in zip(ways[WAYS[3]].requests, values[WAYS[3]], strict=True):
        shared[id(request.query)][shown(request)] = value
    error = 0.0
    for name in WAYS[:3]:
        for request, value in zip(ways[name].requests, values[name], strict=True):
            error = max(error, abs(value - shared[id(request.query)][shown(request)]))
    assert error <= PARITY.get(dtype, COARSE_PARITY), f"the ways differ by {error} nats"
    return error


# ---------------------------------------------------------------------- memory
def as_ids(calls: list[list[Request]]) -> list:
    return [[[[e["id"] for e in request.demonstrations], request.query["id"]] for request in call] for call in calls]


def of_ids(setting: Setting, calls: list) -> list[list[Request]]:
    queries = {query["id"]: query for query in setting.queries}
    return [
        [Request(tuple(setting.pool[i] for i in shown), queries[query]) for shown, query in call] for call in calls
    ]


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def memory_of(way: Whole | Shared, device: str) -> int:
    """Most bytes that a way takes, model aside."""
    if isinstance(way, Shared):
        way.prepare()
    if device.startswith("cuda"):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run(way, device)
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = status("VmRSS")
    run(way, device)
    return status("VmHWM") - before


def measure_memory(name: str, setting: Setting, calls: list, batch_size: int, args, argv: list[str]) -> int | None:
    """In a process of its own where the machine's memory is the device's."""
    if args.no_memory:
        return None
    if args.device.startswith("cuda"):
        return memory_of(make_way(name, setting, calls, args, batch_size), args.device)
    if not Path("/proc/self/clear_refs").exists():
        return None  # only Linux tells
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"calls": as_ids(calls), "batch_size": batch_size}, file)
        file.flush()
        command = [sys.executable, __file__, *argv, "--memory_of", name, file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def answer_memory(args) -> None:
    """The process that [`measure_memory`] starts."""
    setting = make_setting(args)
    name, file = args.memory_of
    asked = json.loads(Path(file).read_text())
    calls = of_ids(setting, asked["calls"])
    print(memory_of(make_way(name, setting, calls, args, asked["batch_size"]), args.device))


# ---------------------------------------------------------------------- tables
def machine(args) -> str:
    if args.device.startswith("cuda"):
        return torch.cuda.get_device_name(args.device)
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].split(': ')[1] if names else 'CPU'}, {args.num_threads} thread(s)"


def figures(values: np.ndarray, digits: int) -> str:
    low, middle, high = (f"{value:,.{digits}f}" for value in (values.min(), np.median(values), values.max()))
    return f"{middle} ({low} to {high})"


def table(num_shots: int, setting: Setting, args, argv: list[str]) -> None:
    calls = record(setting, num_shots, args.beam_size)
    sizes = {name: best_batch_size(name, setting, calls, args) for name in WAYS[1:3]}
    ways = {name: make_way(name, setting, calls, args, sizes.get(name, 1)) for name in WAYS}
    seconds, values = {name: [] for name in WAYS}, {}
    for _ in range(args.repeats):  # in turn, so that all of them see the same machine
        for name, way in ways.items():
            taken, values[name] = timed(way, args.device)
            seconds[name].append(taken)
    error = check_parity(ways, values, args.dtype)
    everything, count = Least(setting, ways[WAYS[3]].requests), len(ways[WAYS[3]].requests)
    speed = {name: len(way.requests) / np.array(seconds[name]) for name, way in ways.items()}
    print(f"\n### S {num_shots}\n")
    print(f"{count:,} requests in {len(calls)} calls; largest difference of an answer's log-probability", end=" ")
    print(f"{error:.1e} nats; (b) in batches of {sizes[WAYS[1]]}, (b2) of {sizes[WAYS[2]]}\n")
    print("| way | sequences/s | x (a) | x (b) | x (b2) | tokens run | x least | images encoded", end="")
    print(" | peak memory, MB |\n|" + " --- |" * 9)
    for name, way in ways.items():
        scale = count / len(way.requests)  # to all requests
        memory = measure_memory(name, setting, calls, sizes.get(name, 1), args, argv)
        gains = [figures(speed[name] / speed[other], 2) if other != name else "1" for other in WAYS[:3]]
        part = "" if scale == 1 else f", on {len(way.requests):,} of the requests"
        cells = [f"{name}{part}", figures(speed[name], 1), *gains, f"{scale * way.tokens:,.0f}"]
        cells += [f"{scale * way.tokens / everything.tokens:.2f}", f"{scale * way.images_encoded:,.0f}"]
        print(f"| {' | '.join(cells)} | {'' if memory is None else f'{memory / 2**20:,.0f}'} |")
    print(f"| least that exact scoring needs | | | | | {everything.tokens:,} | 1 | {everything.images_encoded:,} | |")


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    torch.set_num_threads(args.num_threads)
    if args.memory_of:
        answer_memory(args)
        return
    setting = make_setting(args)
    shape = "a tiny model of the kind of " if args.small else ""
    print(
        f"{shape}{args.model}, {args.dtype}, {args.num_queries} queries in a unit, K {args.num_candidates},", end=" "
    )
    print(f"B {args.beam_size}; {machine(args)}, torch {torch.__version__}, transformers {transformers.__version__};")
    print(f"median (lowest to highest) of {args.repeats} runs")
    for num_shots in args.shots:
        table(num_shots, setting, args, argv)


if __name__ == "__main__":
    main()
