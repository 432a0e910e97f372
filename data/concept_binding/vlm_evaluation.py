# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
What the tiny VLM can and cannot do: prompts built by hand from the dataset's pool, one table of figures.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from episodes import IGNORE, Batch, PromptFormat, Turn, collate
from vlm_format import PATCH_SIZE
from world import IMAGE_SIZE, KINDS, Example, asked_concepts, make_example, right_answer


DRAWS = 4  # of right demonstrations and distractors for each query


def patchify(images: np.ndarray) -> torch.Tensor:
    """
    Pixels as the processor hands them to the model, for many pictures at once.

    Args:
        images (`np.ndarray` of shape `[N, 56, 56, 3]`): `uint8` pixels.

    Returns:
        `torch.FloatTensor` of shape `[N, 16, 588]`: patches in reading order.
    """
    grid = IMAGE_SIZE // PATCH_SIZE
    pixels = torch.from_numpy(np.ascontiguousarray(images)).float() / 127.5 - 1
    pixels = pixels.reshape(-1, grid, PATCH_SIZE, grid, PATCH_SIZE, 3)
    return pixels.permute(0, 1, 3, 5, 2, 4).reshape(-1, grid * grid, 3 * PATCH_SIZE**2)


def image_features(model, images: np.ndarray, batch_size: int = 256) -> torch.Tensor:
    """
    One token for each picture, `[N, D]`.

    Mapped over the pictures rather than concatenated: with attention in its plain ("eager") form this is four times as
    fast on a CPU, and the same to the last bit.
    """
    grid = IMAGE_SIZE // PATCH_SIZE
    shape = torch.tensor([[1, grid, grid]])
    encode = torch.vmap(lambda patches: model.model.visual(patches, grid_thw=shape).pooler_output)
    batches = [encode(patchify(images[i : i + batch_size])) for i in range(0, len(images), batch_size)]  # [N, 1, D]
    return torch.cat(batches)[:, 0]


def run_language_model(model, batch: Batch, features: torch.Tensor, image_token_id: int):
    """
    Hidden states of a batch of episodes. A picture is one token, so M-RoPE positions are the plain ones.

    Args:
        model ([`Qwen2_5_VLForConditionalGeneration`]): the tiny VLM.
        batch ([`Batch`]): episodes.
        features (`torch.FloatTensor` of shape `[N, D]`): table of image features.
        image_token_id (`int`): the token that a picture's feature replaces.

    Returns:
        The language model's output, with `hidden_states`.
    """
    embeds = model.model.language_model.embed_tokens(batch.input_ids)  # [B, L, D]
    is_image = (batch.input_ids == image_token_id)[..., None]
    embeds = embeds.masked_scatter(is_image, features[batch.images])
    positions = torch.arange(embeds.shape[1]).expand(3, *embeds.shape[:2])  # [3, B, L]
    return model.model.language_model(
        inputs_embeds=embeds, position_ids=positions, use_cache=False, output_hidden_states=True
    )


class VLMEvaluation:
    """
    Asks the tiny VLM the dataset's test questions, with demonstrations chosen by someone who knows everything.

    Args:
        model ([`Qwen2_5_VLForConditionalGeneration`]): the tiny VLM.
        processor ([`ProcessorMixin`]): its processor.
        num_queries (`int`, *optional*, defaults to 300): test questions asked.
        pool_size (`int`, *optional*, defaults to 1000): examples that serve as demonstrations.
        dataset_seed (`int`, *optional*, defaults to 0): seed of the dataset.
    """

    def __init__(self, model, processor, num_queries: int = 300, pool_size: int = 1000, dataset_seed: int = 0):
        self.model = model.eval()
        self.prompt_format = PromptFormat(processor)
        self.pool = [make_example(dataset_seed, "pool", i) for i in range(pool_size)]
        self.queries = [make_example(dataset_seed, "test", i) for i in range(num_queries)]
        examples = self.pool + self.queries
        self.rows = {example.id: i for i, example in enumerate(examples)}
        with torch.no_grad():
            self.features = image_features(model, np.stack([example.image for example in examples]))
        self.rng = np.random.default_rng(0)

    @torch.no_grad()
    def answer(self, prompts: Sequence[tuple[Sequence[Example], Example]], batch_size: int = 128):
        """
        Scores each query's `answer` after its demonstrations.

        Args:
            prompts: pairs of demonstrations, in prompt order, and query.
            batch_size (`int`, *optional*, defaults to 128): prompts at once.

        Returns:
            Two arrays: whether greedy decoding gives exactly this answer, and the answer's length-normalised
            probability.
        """
        exact, probabilities = [], []
        for start in range(0, len(prompts), batch_size):
            chunk = prompts[start : start + batch_size]
            batch = collate(
                [[*(self._turn(d, 0.0) for d in demonstrations), self._turn(q, 1.0)] for demonstrations, q in chunk]
            )
            output = run_language_model(self.model, batch, self.features, self.prompt_format.image_token_id)
            row, column = (batch.weights > 0).nonzero(as_tuple=True)  # [T], tokens of the queries' answers
            logprobs = self.model.lm_head(output.last_hidden_state[row, column]).log_softmax(-1)  # [T, V]
            labels, is_word = batch.labels[row, column], batch.next_concept[row, column] != IGNORE
            wrong = torch.zeros(len(chunk)).index_add(0, row, (logprobs.argmax(-1) != labels).float())
            words = torch.zeros(len(chunk)).index_add(0, row, is_word.float())
            total = logprobs.gather(1, labels[:, None])[:, 0] * is_word
            total = torch.zeros(len(chunk)).index_add(0, row, total)
            exact.append((wrong == 0).numpy())
            probabilities.append((total / words).exp().numpy())
        return np.concatenate(exact), np.concatenate(probabilities)

    def _turn(self, example: Example, weight: float) -> Turn:
        answer_ids = self.prompt_format.answer_ids(example.answer)
        concepts = range(len(answer_ids) - 1)  # only tells words from the end token here
        weights = [weight] * len(answer_ids)
        question_ids = self.prompt_format.question_ids(example.question)
        return Turn(self.rows[example.id], question_ids, answer_ids, weights, list(concepts))

    def right_demonstrations(self, query: Example) -> list[Example]:
        """One rightly answered demonstration for a colour or a shape, two complementary ones for "what is it ?"."""
        chosen = []
        for concept in asked_concepts(query.kind, query.colour, query.shape):
            rest = {*asked_concepts(query.kind, query.colour, query.shape)} - {concept}
            options = [e for e in self.pool if concept in _named(e) and not rest & _named(e) and _is_right(e)]
            chosen.append(self._choose(options))
        return [chosen[i] for i in self.rng.permutation(len(chosen))]

    def irrelevant_demonstrations(self, query: Example, number: int) -> list[Example]:
        """Demonstrations, whoever annotated them, that name nothing of what is asked."""
        asked = {*asked_concepts(query.kind, query.colour, query.shape)}
        options = [example for example in self.pool if not asked & _named(example)]
        return [options[i] for i in self.rng.choice(len(options), number, replace=False)]

    def _choose(self, options: list[Example]) -> Example:
        return options[self.rng.integers(len(options))]

    def metrics(self) -> dict[str, float]:
        """All figures of the model card: accuracies and InfoScores in 0 to 1."""
        result = {"zero_shot": self.answer([([], q) for q in self.queries])[0].mean()}
        for number in (2, 4, 8):
            draws = [self.rng.choice(len(self.pool), number, replace=False) for _ in self.queries]
            prompts = [([self.pool[i] for i in draw], q) for draw, q in zip(draws, self.queries, strict=True)]
            result[f"random_{number}_shots"] = self.answer(prompts)[0].mean()
        repeated = self.queries * DRAWS  # one draw a query leaves two points of standard error
        kinds = np.array([q.kind for q in repeated])
        right = [self.right_demonstrations(q) for q in repeated]
        for number in (None, 4, 8):  # the right ones alone, then among distractors
            prompts = []
            for demonstrations, q in zip(right, repeated, strict=True):
                extra = 0 if number is None else number - len(demonstrations)
                together = demonstrations + self.irrelevant_demonstrations(q, extra)
                prompts.append(([together[i] for i in self.rng.permutation(len(together))], q))
            exact = self.answer(prompts)[0]
            name = "right_alone" if number is None else f"right_among_{number}"
            result |= {f"{name}_{kind}": exact[kinds == kind].mean() for kind in KINDS}
        result |= self._contradictions() | self._info_scores(right[: len(self.queries)])
        return {name: round(float(value), 4) for name, value in result.items()}

    def _contradictions(self) -> dict[str, float]:
        """A right and a wrong demonstration of one concept, in both orders: how often is the nearer copied?"""
        prompts = []
        for query in self.queries:
            if query.kind == "it":
                continue
            concept = asked_concepts(query.kind, query.colour, query.shape)[0]
            same = [e for e in self.pool if e.kind == query.kind and concept in _named(e)]
            wrong = [e for e in same if not _is_right(e)]
            if wrong:
                good, bad = self._choose([e for e in same if _is_right(e)]), self._choose(wrong)
                prompts += [([bad, good], query), ([good, bad], replace(query, answer=bad.answer))]
        return {"nearer_of_two_followed": self.answer(prompts)[0].mean()}

    def _info_scores(self, right: list[list[Example]]) -> dict[str, float]:
        zero_shot = self.answer([([], q) for q in self.queries])[1]
        relevant = self.answer(list(zip(right, self.queries, strict=True)))[1] - zero_shot
        prompts = [(self.irrelevant_demonstrations(q, len(r)), q) for r, q in zip(right, self.queries, strict=True)]
        irrelevant = self.answer(prompts)[1] - zero_shot
        return {"info_score_relevant": relevant.mean(), "info_score_irrelevant": irrelevant.mean()}


def _named(example: Example) -> set[str]:
    return {*asked_concepts(example.kind, example.colour, example.shape)}


def _is_right(example: Example) -> bool:
    return example.answer == right_answer(example.kind, example.colour, example.shape)
