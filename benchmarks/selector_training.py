# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Seconds of a training step of a selector, by SFT and by GRPO: same selector, same queries, same run, parity asserted.

```bash
make benchmark
```

- `CLIP in every step`: a plain loop that encodes each distinct image and text of a batch, then takes the same step
- `leverplus_trl`: the trainer on memory-mapped embeddings, as `trainer.train()` runs it: data loader, forward,
backward, clipping, optimizer, schedule, logging
- `matrix products alone`: those of one such step, forward and backward, recorded and repeated without anything else

These take turns, the last two step by step, so that whatever else the machine does meets all of them. A step with CLIP
takes more than a minute: timed is one of its 16 batches of images and texts, between any two blocks of steps. The CLIP
model has the shape of ViT-B/32 and random weights; all images are encoded twice, for the stored rows and for parity.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel, Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from leverplus_trl.retrieval.embeddings import ExampleEmbeddings, _read_table, _write_table
from leverplus_trl.selectors import PRESETS, PointerSelectorConfig, PointerSelectorModel, SelectorProcessor
from leverplus_trl.selectors.base_selector import action_step_logprobs
from leverplus_trl.trainer.offline_grpo_config import OfflineGRPOConfig
from leverplus_trl.trainer.offline_grpo_trainer import OfflineGRPOTrainer
from leverplus_trl.trainer.rollout_dataset import RolloutDataset, RolloutGroups
from leverplus_trl.trainer.sft_config import SelectorSFTConfig
from leverplus_trl.trainer.sft_dataset import ScoredPrefixes, SelectorDataset
from leverplus_trl.trainer.sft_trainer import SelectorSFTTrainer


NUM_CANDIDATES, BATCH_SIZE, NUM_BEAMS, NUM_ROLLOUTS, NUM_SHOTS, WIDTH = 64, 8, 5, 16, 2, 512
NUM_QUERIES, POOL_SIZE, NUM_TOKENS, CLIP_BATCH_SIZE = 512, 10_000, 16, 32
MATRIX_PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm}
PARITY = 1e-5


class Recorder(TorchDispatchMode):
    """Keeps every matrix product that runs, with operands of the same shapes and strides."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in MATRIX_PRODUCTS:
            # 1e-3: nothing overflows or becomes denormal
            self.calls.append((function, [torch.full_like(arg, 1e-3) for arg in args], kwargs or {}))
        return function(*args, **(kwargs or {}))

    def repeat(self) -> None:
        with torch.no_grad():
            for function, args, kwargs in self.calls:
                function(*args, **kwargs)


class Clock(TrainerCallback):
    """
    Times steps from end to end, so that nothing of the loop is left out; after each its matrix products, and after
    each block some work of the encoder.
    """

    def __init__(self, products: Recorder, num_steps: int, encode_some: Callable[[], None]):
        self.products, self.num_steps, self.encode_some = products, num_steps, encode_some
        self.steps, self.alone, self.encoding, self.start = [], [], [], None

    def on_step_end(self, args, state, control, **kwargs):
        end = time.perf_counter()
        self.products.repeat()
        if self.start is not None:
            self.steps.append(end - self.start)
            self.alone.append(time.perf_counter() - end)
        if state.global_step % self.num_steps == 0:
            start = time.perf_counter()
            self.encode_some()
            self.encoding.append(time.perf_counter() - start)
        self.start = time.perf_counter()


def draw_clip(quick: bool) -> CLIPModel:
    tiny = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    values = {"text_config": tiny, "vision_config": tiny} if quick else {}
    return CLIPModel(CLIPConfig(projection_dim=WIDTH, **values)).eval()


def draw_examples(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `[N, 3, 224, 224]` of coloured tiles and texts `[N, T]` that end as texts of CLIP do."""
    images = F.interpolate(torch.randn(count, 3, 7, 7), scale_factor=32)
    texts = torch.randint(1, 49_000, (count, NUM_TOKENS))
    texts[:, -1] = 49_407
    return images, texts


@torch.inference_mode()
def encode(clip: CLIPModel, images: torch.Tensor, texts: torch.Tensor, order: torch.Tensor) -> tuple:
    """Unit features `[N, D]` of images and texts; their batches are made up in some order."""
    features = []
    for inputs, name in ((images, "pixel_values"), (texts, "input_ids")):
        tower = clip.get_image_features if name == "pixel_values" else clip.get_text_features
        found = [tower(**{name: inputs[rows]}).pooler_output for rows in order.split(CLIP_BATCH_SIZE)]
        features.append(F.normalize(torch.cat(found), dim=-1)[order.argsort()])
    return tuple(one.clone() for one in features)


def stored_embeddings(folder: Path, size: int, rows: np.ndarray, encoded: tuple) -> ExampleEmbeddings:
    """Tables of a whole split as the project stores them; but for some rows it is drawn, not encoded."""
    ids, tables = [str(row) for row in range(size)], []
    for modality, features in zip(("image", "text"), encoded, strict=True):
        values = F.normalize(torch.randn(size, WIDTH), dim=-1)
        values[rows] = features
        _write_table(folder / f"{modality}_{size}", ids, values.numpy(), {})
        tables.append(_read_table(folder / f"{modality}_{size}", ids))
    return ExampleEmbeddings(ids, *tables)


def draw_sequences(count: int) -> torch.Tensor:
    """`[Q, N, S]`: for each query N different sequences of S candidates."""
    drawn = torch.rand(NUM_QUERIES, NUM_CANDIDATES, NUM_CANDIDATES)
    drawn.diagonal(dim1=1, dim2=2).fill_(-1.0)
    best = drawn.flatten(1).topk(count, dim=-1).indices  # [Q, N]
    return torch.stack([best // NUM_CANDIDATES, best % NUM_CANDIDATES], dim=-1)


def draw_scored() -> ScoredPrefixes:
    """A beam search: all first picks are scored, and what follows on the best of them."""
    beams = draw_sequences(NUM_BEAMS)  # [Q, N, S]
    prefixes = torch.full((NUM_QUERIES, 1 + NUM_BEAMS, NUM_SHOTS), -1)
    prefixes[:, 1:, 0] = torch.rand(NUM_QUERIES, NUM_CANDIDATES).topk(NUM_BEAMS, dim=-1).indices
    scores = 0.1 * torch.randn(NUM_QUERIES, 1 + NUM_BEAMS, NUM_CANDIDATES)
    scores[:, 1:].scatter_(2, prefixes[:, 1:, :1], torch.nan)
    return ScoredPrefixes(prefixes, scores, beams, torch.rand(NUM_QUERIES, NUM_BEAMS))


def draw_groups() -> RolloutGroups:
    size = (NUM_QUERIES, NUM_ROLLOUTS)
    full = torch.ones(size, dtype=torch.bool)
    logprobs, sources = torch.full(size, -8.0), torch.zeros(size, dtype=torch.long)
    return RolloutGroups(draw_sequences(NUM_ROLLOUTS), torch.rand(size), full, logprobs, sources, ["random"])


def make_trainers(
    folder: Path, queries: ExampleEmbeddings, pool: ExampleEmbeddings, candidates: np.ndarray, num_steps: int
) -> dict[str, Trainer]:
    """Selector, data and trainer with the defaults of the project, as far as they concern a step."""
    trainers = {}
    for name in ("SFT", "GRPO"):
        values = PRESETS["v2"][1]
        model = PointerSelectorModel(PointerSelectorConfig(image_embed_dim=WIDTH, text_embed_dim=WIDTH, **values))
        processor = SelectorProcessor()
        features = processor.fuse(pool, processor.query_features)
        model.fit_inputs(features, features)
        common = {"output_dir": str(folder / name), "per_device_train_batch_size": BATCH_SIZE, "max_steps": num_steps}
        common |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
        common |= {"use_cpu": True, "disable_tqdm": True, "report_to": "none"}
        ids = queries.ids, [[str(row) for row in rows] for rows in candidates.tolist()]
        if name == "SFT":
            dataset = SelectorDataset(*ids, queries, pool, processor, draw_scored())
            trainers[name] = SelectorSFTTrainer(model, SelectorSFTConfig(**common), dataset)
        else:
            dataset = RolloutDataset(*ids, queries, pool, processor, draw_groups())
            args = OfflineGRPOConfig(rce_epochs=0.0, curriculum_epochs=0.0, **common)
            trainers[name] = OfflineGRPOTrainer(model, args, dataset)
        trainers[name].remove_callback(PrinterCallback)
    return trainers


def record_products(trainer: Trainer) -> tuple[Recorder, int]:
    """The matrix products of one step, forward and backward, and their floating-point operations."""
    batch = trainer.train_dataset.__getitems__(list(range(BATCH_SIZE)))
    if isinstance(trainer, OfflineGRPOTrainer):
        batch["old_step_logprobs"] = old_policy(batch)
    trainer.model.train()
    with FlopCounterMode(display=False) as counter, Recorder() as products:
        trainer.compute_loss(trainer.model, batch).backward()
    trainer.model.zero_grad()
    return products, counter.get_total_flops()


def old_policy(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return action_step_logprobs(batch["reference_logits"], batch["demonstration_positions"], False)  # [B, G, S]


def loss_of(trainer: Trainer, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Loss without dropout. The policy has moved from the reference by now, so that GRPO's is not just 0."""
    trainer.model.eval()
    if isinstance(trainer, OfflineGRPOTrainer):
        batch = batch | {"old_step_logprobs": old_policy(batch)}
        trainer.adaptive_beta.beta = trainer.args.beta
    return trainer.compute_loss(trainer.model, batch)


def encoding_step(trainer: Trainer, encoded: tuple) -> tuple[float, float]:
    """What a plain loop does behind its encoder: seconds, and how far its loss is from that on stored embeddings."""
    stored = trainer.train_dataset.__getitems__(list(range(BATCH_SIZE)))
    expected = loss_of(trainer, stored).item()
    optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=1e-4)
    start = time.perf_counter()
    features = torch.cat(encoded, dim=-1)  # [B + B * K, D]
    own, candidates = features[:BATCH_SIZE], features[BATCH_SIZE:].view(BATCH_SIZE, NUM_CANDIDATES, -1)
    loss = loss_of(trainer, stored | {"query_embeds": own, "candidate_embeds": candidates})
    loss.backward()
    optimizer.step()
    return time.perf_counter() - start, abs(loss.item() - expected)


def blocks(values: list[float], count: int) -> np.ndarray:
    """Means of consecutive blocks: a log every so many steps belongs to their cost."""
    return np.array([block.mean() for block in np.array_split(values, count)])


def figures(values: np.ndarray, digits: int) -> str:
    low, middle, high = (f"{value:,.{digits}f}" for value in (values.min(), np.median(values), values.max()))
    return f"{middle} ({low} to {high})"


def draw_encodings(clip: CLIPModel) -> tuple[list[tuple], Callable[[], None]]:
    """Two encodings of one batch of the selector, in batches of CLIP made up anew; and one batch of CLIP as a call."""
    count = BATCH_SIZE + BATCH_SIZE * NUM_CANDIDATES
    images, texts = draw_examples(count)
    some = images[:CLIP_BATCH_SIZE], texts[:CLIP_BATCH_SIZE], torch.arange(CLIP_BATCH_SIZE)
    return [encode(clip, images, texts, torch.randperm(count)) for _ in range(2)], lambda: encode(clip, *some)


def stored_splits(folder: Path, encoded: tuple) -> tuple[ExampleEmbeddings, ExampleEmbeddings, np.ndarray]:
    """Queries, pool, and the candidates `[Q, K]` of each query; the first batch is what was encoded."""
    rng = np.random.default_rng(0)
    candidates = rng.permuted(np.tile(np.arange(POOL_SIZE), (NUM_QUERIES, 1)), axis=1)[:, :NUM_CANDIDATES]
    shape = (BATCH_SIZE, NUM_CANDIDATES)
    candidates[:BATCH_SIZE] = rng.permutation(POOL_SIZE)[: BATCH_SIZE * NUM_CANDIDATES].reshape(shape)
    own, others = (tuple(one[part] for one in encoded) for part in (slice(BATCH_SIZE), slice(BATCH_SIZE, None)))
    queries = stored_embeddings(folder, NUM_QUERIES, np.arange(BATCH_SIZE), own)
    return queries, stored_embeddings(folder, POOL_SIZE, candidates[:BATCH_SIZE].ravel(), others), candidates


def measure(name: str, trainer: Trainer, args: argparse.Namespace, encoded: tuple, encode_some: Callable) -> list[str]:
    """Trains, and gives the rows of the table; the first `num_steps` steps are warm-up."""
    products, operations = record_products(trainer)
    clock = Clock(products, args.num_steps, encode_some)
    trainer.add_callback(clock)
    trainer.train()
    steps, alone = (blocks(one[args.num_steps - 1 :], args.repeats) for one in (clock.steps, clock.alone))
    behind, error = encoding_step(trainer, encoded)
    assert error <= PARITY, f"{name}: the losses of the two ways differ by {error}"
    around = (np.array(clock.encoding[:-1]) + clock.encoding[1:]) / 2  # of each block
    encoding = around * (BATCH_SIZE + BATCH_SIZE * NUM_CANDIDATES) / CLIP_BATCH_SIZE + behind
    calls = f"its {len(products.calls)} matrix products alone, {operations / 1e9:.2f} GFLOP"
    gain, share = encoding / steps, 100 * alone / steps
    rows = []
    for way, seconds, *cells in (
        ("CLIP in every step", encoding, "1", ""),
        ("leverplus_trl", steps, figures(gain, 0), figures(share, 0)),
        (calls, alone, "", "100"),
    ):
        speed = f"{BATCH_SIZE / np.median(seconds):.3g}"
        rows.append(f"| {name} | {way} | {figures(1e3 * seconds, 1)} | {speed} | {' | '.join(cells)} |")
    print(f"{name}: largest difference of the losses on stored embeddings and on images {error:.1e}")
    return rows


def cpu_name() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="Blocks of steps that the spread is of.")
    parser.add_argument("--num_steps", type=int, default=100, help="Steps in a block.")
    parser.add_argument("--quick", action="store_true", help="A tiny CLIP and few steps: shows that it runs.")
    args = parser.parse_args(argv)
    if args.quick:
        args.repeats, args.num_steps = 2, 4
    torch.set_num_threads(args.num_threads)
    torch.manual_seed(0)
    encodings, encode_some = draw_encodings(draw_clip(args.quick))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        splits = stored_splits(folder, encodings[0])
        total = args.num_steps * (1 + args.repeats)
        for name, trainer in make_trainers(folder, *splits, total).items():
            rows += measure(name, trainer, args, encodings[1], encode_some)
    print(f"{BATCH_SIZE} queries, K {NUM_CANDIDATES}, S {NUM_SHOTS}, {NUM_BEAMS} beams or {NUM_ROLLOUTS} rollouts,")
    print(f"embeddings of {WIDTH}, preset v2; {cpu_name()}, {args.num_threads} thread(s), torch {torch.__version__},")
    print(f"transformers {transformers.__version__}; median (lowest to highest) of {args.repeats} blocks of", end=" ")
    print(f"{args.num_steps} steps\n")
    print("| training | way | ms a step | queries/s | against CLIP in every step | share of matrix products, % |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
