# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The ways that `beam_scoring.py` compares, and the least that any could do."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scoring_models import Setting
from torch.nn.utils.rnn import pad_sequence

from leverplus_trl import Request
from leverplus_trl.beams import BeamArguments, search_unit
from leverplus_trl.tasks import Example
from leverplus_trl.tasks.images import decode_image
from leverplus_trl.vlms.prompts import Piece


class Recorder:
    """Hands requests on to a VLM and keeps them."""

    def __init__(self, vlm):
        self.vlm, self.calls = vlm, []

    def answer_logprobs(self, requests: Sequence[Request]):
        self.calls.append(list(requests))
        return self.vlm.answer_logprobs(requests)


def record(setting: Setting, num_shots: int, beam_size: int) -> list[list[Request]]:
    """The requests of a beam search as they are made, a list a step; the first is without demonstrations."""
    vlm = setting.fresh()
    recorder, args = Recorder(vlm), BeamArguments(output_dir="unused", num_shots=num_shots, beam_size=beam_size)
    with vlm.unit():
        search_unit(setting.queries, setting.candidate_ids, setting.pool, recorder, args)
    return recorder.calls


def answer_tokens(setting: Setting, query: Example) -> list[int]:
    return setting.vlm.family.process(Piece(setting.vlm.texts.answer(query))).tokens["input_ids"]


class Whole:
    """
    Ways that run every prompt from its beginning: texts and images through the processor, the model's own forward, and
    logits at all positions.

    Args:
        setting ([`Setting`]):
            Model and examples.
        requests (`list[Request]`):
            What is scored.
        batch_size (`int`):
            Prompts in a batch, neighbours in `requests`.
        ahead (`bool`):
            Whether every text is tokenised and every image preprocessed once, for all prompts it stands in.
    """

    def __init__(self, setting: Setting, requests: list[Request], batch_size: int, ahead: bool):
        self.vlm, self.requests, self.batch_size, self.ahead = setting.vlm, requests, batch_size, ahead
        examples = {e["id"]: e for request in requests for e in (*request.demonstrations, request.query)}
        self.images = {name: decode_image(example["image"]) for name, example in examples.items()}
        self.num_answer_tokens = {r.query["id"]: len(answer_tokens(setting, r.query)) for r in requests}
        self.images_encoded = self.tokens = 0

    @torch.inference_mode()
    def run(self) -> np.ndarray:
        """Log-probability of the answer of each request."""
        self.images_encoded = self.tokens = 0
        found, self.pieces = [], {}
        for start in range(0, len(self.requests), self.batch_size):
            batch = self.requests[start : start + self.batch_size]
            inputs = self._put_together(batch) if self.ahead else self._process(batch)
            rows, width = inputs["input_ids"].shape
            self.tokens += rows * width
            self.images_encoded += len(inputs["image_grid_thw"])
            logits = self.vlm.model(**inputs, use_cache=False).logits  # [B, L, V]
            for row, request in enumerate(batch):
                count = self.num_answer_tokens[request.query["id"]]
                ids = inputs["input_ids"][row, -count:]
                logprobs = logits[row, -count - 1 : -1].float().log_softmax(-1)  # [A, V]
                found.append(logprobs.gather(1, ids[:, None]).double().sum())
        return torch.stack(found).cpu().numpy()

    def _process(self, batch: list[Request]) -> dict[str, torch.Tensor]:
        texts = [self.vlm.texts.whole(*request).text + self.vlm.texts.answer(request.query) for request in batch]
        images = [[self.images[e["id"]] for e in (*request.demonstrations, request.query)] for request in batch]
        inputs = self.vlm.family.processor(
            text=texts, images=images, padding=True, padding_side="left", return_tensors="pt"
        )
        return self._moved(inputs)

    def _put_together(self, batch: list[Request]) -> dict[str, torch.Tensor]:
        rows = [self._row(request) for request in batch]
        padding = {"input_ids": self.vlm.pad_token_id, "mm_token_type_ids": 0, "attention_mask": 0}
        tokens = {}
        for name, value in padding.items():
            joined = [torch.tensor([token for piece in row for token in piece[name][0]]) for row in rows]
            tokens[name] = pad_sequence(joined, batch_first=True, padding_value=value, padding_side="left")  # [B, L]
        pieces = [piece for row in rows for piece in row if "pixel_values" in piece]
        images = {name: torch.cat([piece[name] for piece in pieces]) for name in ("pixel_values", "image_grid_thw")}
        return self._moved(tokens | images)

    def _moved(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        model = self.vlm.model
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        return inputs | {"pixel_values": inputs["pixel_values"].to(model.dtype)}

    def _row(self, request: Request) -> list[dict]:
        texts, query = self.vlm.texts, request.query
        shown = [
            self._piece("demonstration", e["id"], lambda e=e: texts.prompt.demonstration(e))
            for e in request.demonstrations
        ]
        return [
            *([self._piece("header", "", lambda: texts.header(query))] if texts.header(query).text else []),
            *shown,
            self._piece("query", query["id"], lambda: texts.prompt.query(query)),
            self._piece("answer", query["id"], lambda: Piece(texts.answer(query))),
        ]

    def _piece(self, role: str, name: str, make) -> dict:
        if (role, name) not in self.pieces:
            piece = make()
            images = [self.images[name]] if piece.images else None
            self.pieces[role, name] = self.vlm.family.processor(text=[piece.text], images=images, return_tensors="pt")
        return self.pieces[role, name]


class Shared:
    """
    The search's own way: calls to `answer_logprobs` inside one unit.

    Args:
        setting ([`Setting`]):
            Model and examples.
        calls (`list[list[Request]]`):
            What is scored, as the search asks for it.
    """

    def __init__(self, setting: Setting, calls: list[list[Request]]):
        self.setting, self.calls, self.vlm = setting, calls, None
        self.requests = [request for call in calls for request in call]
        self.images_encoded = self.tokens = 0

    def prepare(self) -> None:
        """A VLM that knows nothing of these requests; what it tries itself out on is not among them."""
        self.vlm = None  # its memory goes before the next one's comes
        self.vlm = self.setting.fresh()

    def run(self) -> np.ndarray:
        """Log-probability of the answer of each request."""
        engine, images = self.vlm.runner.engine, self.vlm.family.num_images_encoded
        tokens = engine.num_tokens
        with self.vlm.unit():
            found = [score.logprob for call in self.calls for score in self.vlm.answer_logprobs(call)]
        self.tokens, self.images_encoded = engine.num_tokens - tokens, self.vlm.family.num_images_encoded - images
        return np.array(found)


class Least:
    """
    What exact scoring can't do without: each distinct token prefix once, each distinct image once.

    Found without the planner, token by token: a prefix is the chain of all its tokens, those of an image told apart by
    whose it is.

    Args:
        setting ([`Setting`]):
            Model and examples.
        requests (`list[Request]`):
            What is scored.
    """

    def __init__(self, setting: Setting, requests: list[Request]):
        self.vlm, self._tokens = setting.vlm, {}
        prefixes, images = {}, set()
        for request in requests:
            images.update(example["id"] for example in (*request.demonstrations, request.query))
            prompt, answer = self._prompt(request)
            node = 0
            for token in [*prompt, *answer[:-1]]:
                node = prefixes.setdefault((node, token), len(prefixes) + 1)
        self.tokens, self.images_encoded = len(prefixes), len(images)

    def _prompt(self, request: Request) -> tuple[list, list]:
        texts, query = self.vlm.texts, request.query
        prompt = list(self._of("header", "", lambda: texts.header(query)))
        for example in request.demonstrations:
            prompt += self._of("shown", example["id"], lambda example=example: texts.prompt.demonstration(example))
        prompt += self._of("query", query["id"], lambda: texts.prompt.query(query))
        return prompt, self._of("answer", query["id"], lambda: Piece(texts.answer(query)))

    def _of(self, role: str, name: str, make: Callable[[], Piece]) -> list:
        """Tokens of a segment; those of its image are its own, everything else may stand in others, too."""
        if (role, name) not in self._tokens:
            piece, image = make(), self.vlm.model.config.image_token_id
            found = self.vlm.family.process(piece).tokens["input_ids"] if piece.text else []
            self._tokens[role, name] = [(token, name) if token == image else token for token in found]
        return self._tokens[role, name]
