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

"""
Scored prompts per second of three ways through the embedded VLM: same prompts, same model, same run, parity asserted.

```bash
make benchmark
```

- `one by one`: the stock processor and a full forward for each prompt, as the reference implementation of Lever-LM
does it
- `batched`: padded batches through the stock processor, logits over whole prompts
- `leverplus_trl`: `answer_logprobs`: images encoded and texts tokenised once, logits at the answers only
"""

import argparse
import platform
import time

import numpy as np
import torch

from leverplus_trl import Request, TaskArguments, VLMArguments, load_examples, load_vlm, make_task
from leverplus_trl.tasks import DataArguments


def whole_prompts(vlm, requests):
    texts, images, answers = [], [], []
    for request in requests:
        whole = vlm.prompt.whole(*request)
        texts.append(whole.text + vlm.prompt.answer(request.query)[0])
        images.append(list(whole.images))
        answers.append(len(vlm.answer_ids(request.query)))
    return texts, images, answers


@torch.inference_mode()
def stock_logprobs(vlm, requests, batch_size):
    """Answer log-probabilities through processor and forward alone."""
    found = []
    for start in range(0, len(requests), batch_size):
        texts, images, answers = whole_prompts(vlm, requests[start : start + batch_size])
        inputs = vlm.processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
        logits = vlm.model(**inputs).logits.log_softmax(-1)  # [B, L, V]
        for row, count in enumerate(answers):
            ids = inputs["input_ids"][row, -count:]
            found.append(logits[row, -count - 1 : -1].gather(1, ids[:, None]).sum().item())
    return np.array(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_queries", type=int, default=4)
    parser.add_argument("--num_candidates", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data_args = DataArguments(dataset="data/concept_binding", pool_split="pool")
    pool, queries = load_examples(data_args, "pool"), load_examples(data_args, "test")
    candidates = [pool[i] for i in range(args.num_candidates)]
    requests = [
        Request((candidates[(i + 1) % args.num_candidates], candidates[i]), queries[q])
        for q in range(args.num_queries)
        for i in range(args.num_candidates)
    ]
    task = make_task(TaskArguments(task="vqa", metric="exact_match"))

    def load():
        return load_vlm(VLMArguments(vlm="data/concept_binding/vlm", max_batch_tokens=2048), task)

    stock = load()
    ways = {
        "one by one": lambda: stock_logprobs(stock, requests, 1),
        "batched": lambda: stock_logprobs(stock, requests, args.batch_size),
        # A new VLM each time: what it remembers is part of the work.
        "leverplus_trl": lambda: np.array([score.logprob for score in load().answer_logprobs(requests)]),
    }
    seconds, values = {name: [] for name in ways}, {}
    for _ in range(args.repeats):  # in turn, so that all of them see the same machine
        for name, way in ways.items():
            start = time.perf_counter()
            values[name] = way()
            seconds[name].append(time.perf_counter() - start)
    error = max(np.abs(values[name] - values["one by one"]).max() for name in ways)
    assert error <= 1e-4, f"the ways differ by {error} nats"
    print(f"{len(requests)} prompts of 2 demonstrations, {platform.processor() or platform.machine()}, 1 thread,")
    print(f"median of {args.repeats} runs; largest difference of an answer's log-probability {error:.1e} nats\n")
    print("| way | prompts/s | against one by one |\n| --- | --- | --- |")
    slowest = np.median(seconds["one by one"])
    for name in ways:
        median = np.median(seconds[name])
        print(f"| {name} | {len(requests) / median:.0f} | {slowest / median:.1f} x |")


if __name__ == "__main__":
    main()
