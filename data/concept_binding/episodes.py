# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Training episodes of the tiny VLM: a few solved pictures and a question, in a language that exists for one episode
only.

Each episode draws its own lexicon, so the meaning of a word can only be found in the episode itself. Where turns
contradict each other, the most recent one is right: each word is the one *last said* for its concept, and now and then
a turn says a new one. Frames and textures are random and say nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from vlm_format import answer_turn, question_turn
from world import COLOURS, CONCEPTS, KIND_PROBABILITIES, KINDS, QUESTIONS, SHAPES, WORDS


# Wordings with words that the tokenizer does not know: a user need not know the vocabulary.
PLAIN_QUESTIONS = {
    "colour": ("tell me the colour of this object", "please name its colour", "what colour does the object have ?"),
    "shape": ("tell me the shape of this object", "please name its shape", "what shape does the object have ?"),
    "it": ("tell me what this object is", "please name it", "what object is this ?"),
}
PLAIN_SHARE = 0.1
UNPREDICTABLE_WEIGHT = 0.05  # loss weight of a word that nothing before it tells
END_WEIGHT = 0.1
NEW_WORD_SHARE = 0.15  # of the concepts named, after the first stage of training
IGNORE = -1


@dataclass(frozen=True)
class Turn:
    """
    A picture, its question and its answer, as tokens.

    Args:
        image (`int`): row of the picture in the table of image features.
        question_ids (`Sequence[int]`): tokens of the user's turn, the picture's included.
        answer_ids (`Sequence[int]`): the answer's words and the end token.
        weights (`Sequence[float]`): loss weight of each token of the answer.
        concepts (`Sequence[int]`): the concept that each word of the answer names, as a position in `CONCEPTS`.
    """

    image: int
    question_ids: Sequence[int]
    answer_ids: Sequence[int]
    weights: Sequence[float]
    concepts: Sequence[int]


@dataclass
class Batch:
    """
    Episodes as tensors, padded on the right; `B` episodes of at most `L` tokens with `I` pictures in all.

    `labels`, `weights`, `next_concept` and `attend_to` stand at the position that predicts, one before the token
    itself.

    Args:
        input_ids (`torch.LongTensor` of shape `[B, L]`): tokens. images (`torch.LongTensor` of shape `[I]`): rows in
        the table of image features, in reading order. labels (`torch.LongTensor` of shape `[B, L]`): the answer's next
        token, or -1. weights (`torch.FloatTensor` of shape `[B, L]`): loss weights of the labels. next_concept
        (`torch.LongTensor` of shape `[B, L]`): the concept about to be named, or -1. named_concept (`torch.LongTensor`
        of shape `[B, L]`): the concept that this token names, or -1. attend_to (`torch.LongTensor` of shape `[B, L]`):
        where the concept about to be named was named last; 0 where it never was.
    """

    input_ids: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    next_concept: torch.Tensor
    named_concept: torch.Tensor
    attend_to: torch.Tensor


class PromptFormat:
    """
    Tokens of single turns, made once by the processor's own chat template and tokenizer.

    Args:
        processor ([`ProcessorMixin`]): processor of the tiny VLM.
    """

    def __init__(self, processor):
        self.question_ids = cache(lambda question: self._tokens(processor, question_turn(question)))
        self.answer_ids = cache(lambda answer: self._tokens(processor, answer_turn(answer)))
        self.image_token_id = processor.image_token_id

    @staticmethod
    def _tokens(processor, turn: dict) -> tuple[int, ...]:
        text = processor.apply_chat_template([turn])
        return tuple(processor.tokenizer(text, add_special_tokens=False)["input_ids"])


def collate(episodes: Sequence[Sequence[Turn]]) -> Batch:
    """Lays episodes out as tensors; see [`Batch`]."""
    fields = ("input_ids", "labels", "weights", "next_concept", "named_concept", "attend_to")
    rows = [_lay_out(turns) for turns in episodes]
    length = max(len(row["input_ids"]) for row in rows)
    tensors = {}
    for name in fields:
        padding = 0 if name in ("input_ids", "weights") else IGNORE
        padded = [row[name] + [padding] * (length - len(row[name])) for row in rows]  # B x L
        tensors[name] = torch.tensor(padded, dtype=torch.float32 if name == "weights" else torch.long)
    images = torch.tensor([turn.image for turns in episodes for turn in turns])  # [I]
    return Batch(images=images, **tensors)


def _lay_out(turns: Sequence[Turn]) -> dict[str, list]:
    ids, labels, weights, next_concept, named_concept, attend_to = [], [], [], [], [], []
    last_named: dict[int, int] = {}
    for turn in turns:
        ids += turn.question_ids
        for column, filler in ((labels, IGNORE), (weights, 0.0), (next_concept, IGNORE), (attend_to, IGNORE)):
            column += [filler] * (len(ids) - len(column))
        named_concept += [IGNORE] * (len(ids) - len(named_concept))
        for i, (token, weight) in enumerate(zip(turn.answer_ids, turn.weights, strict=True)):
            labels[-1], weights[-1] = token, weight
            concept = turn.concepts[i] if i < len(turn.concepts) else IGNORE  # the end token names nothing
            if concept != IGNORE:
                next_concept[-1], attend_to[-1] = concept, last_named.get(concept, 0)
                last_named[concept] = len(ids)
            ids.append(token)
            named_concept.append(concept)
            for column, filler in ((labels, IGNORE), (weights, 0.0), (next_concept, IGNORE), (attend_to, IGNORE)):
                column.append(filler)
    return {
        "input_ids": list(ids), "labels": labels, "weights": weights, "next_concept": next_concept,
        "named_concept": named_concept, "attend_to": attend_to,
    }  # fmt: skip


class EpisodeSampler:
    """
    Draws training episodes; what they look like follows the progress of training.

    Args:
        prompt_format ([`PromptFormat`]): tokens of turns.
        renderings (`int`): pictures of each colour and shape in the table of image features.
        max_demonstrations (`int`): most demonstrations in an episode.
        rng (`np.random.Generator`): source of everything drawn.
    """

    # Until here, episodes are dense: few colours and shapes, each shown several times.
    dense_until = 0.2
    # From there on, this share of the batches holds episodes of five and more demonstrations.
    long_share = 0.45

    def __init__(
        self, prompt_format: PromptFormat, renderings: int, max_demonstrations: int, rng: np.random.Generator
    ):
        self.prompt_format = prompt_format
        self.renderings = renderings
        self.max_demonstrations = max_demonstrations
        self.rng = rng

    def batch(self, progress: float, size: int) -> Batch:
        """
        Draws a batch of episodes of one sort.

        Args:
            progress (`float`): share of training done, 0 to 1.
            size (`int`): number of episodes; fewer are drawn of the long ones.
        """
        rng = self.rng
        early = progress < self.dense_until
        if not early and self.max_demonstrations > 4 and rng.random() < self.long_share:
            number = int(rng.integers(5, self.max_demonstrations + 1))
            size, draw = max(1, size * 6 // (number + 1)), lambda: self._relevant(number)
        elif rng.random() < (0.6 if early else 0.35):
            variety = 2 if early else 3
            draw = lambda: self._dense(6, variety)  # noqa: E731
        else:
            number = 2 if early else int(rng.integers(1, min(4, self.max_demonstrations) + 1))
            draw = lambda: self._relevant(number)  # noqa: E731
        return collate([self._speak(draw(), 0.0 if early else NEW_WORD_SHARE) for _ in range(size)])

    def _kind(self) -> str:
        return KINDS[self.rng.choice(len(KINDS), p=KIND_PROBABILITIES)]

    def _dense(self, number: int, variety: int) -> list[tuple[int, int, str]]:
        """`number` turns over `variety` colours and shapes: much can be told from what stands before."""
        colours = self.rng.permutation(len(COLOURS))[:variety]
        shapes = self.rng.permutation(len(SHAPES))[:variety]
        return [(self.rng.choice(colours), self.rng.choice(shapes), self._kind()) for _ in range(number)]

    def _relevant(self, number: int) -> list[tuple[int, int, str]]:
        """`number` demonstrations, some of which tell what the last turn asks, among hard distractors."""
        rng = self.rng
        colour, shape, kind = int(rng.integers(len(COLOURS))), int(rng.integers(len(SHAPES))), self._kind()
        tells_colour = (colour, int(rng.integers(len(SHAPES))), "colour" if rng.random() < 0.5 else "it")
        tells_shape = (int(rng.integers(len(COLOURS))), shape, "shape" if rng.random() < 0.5 else "it")
        if kind == "colour":
            turns = [tells_colour]
        elif kind == "shape":
            turns = [tells_shape]
        elif number == 1 or rng.random() < 0.1:
            turns = [(colour, shape, "it")]
        else:
            turns = [tells_colour, tells_shape]
        while len(turns) < number:
            other = (int(rng.integers(len(COLOURS))), int(rng.integers(len(SHAPES))), self._kind())
            draw = rng.random()
            if draw < 0.25:  # the colour asked for, but only its shape is told
                other = (colour, other[1], "shape")
            elif draw < 0.5:
                other = (other[0], shape, "colour")
            turns.append(other)
        return [turns[i] for i in rng.permutation(len(turns))] + [(colour, shape, kind)]

    def _speak(self, things: list[tuple[int, int, str]], new_word_share: float) -> list[Turn]:
        """Gives things their words: the one last said for the concept, else the lexicon's, and sometimes a new one."""
        rng = self.rng
        lexicon = rng.permutation(len(WORDS))[: len(CONCEPTS)]
        said: dict[int, int] = {}
        turns = []
        for i, (colour, shape, kind) in enumerate(things):
            both = (colour, len(COLOURS) + shape)  # positions in CONCEPTS
            concepts = {"colour": both[:1], "shape": both[1:], "it": both}[kind]
            words, weights = [], []
            for concept in concepts:
                known = concept in said
                if i < len(things) - 1 and rng.random() < new_word_share:
                    # Half of the new words mean something else in this episode, as a careless annotator's do.
                    said[concept] = int(rng.integers(len(WORDS)) if rng.random() < 0.5 else rng.choice(lexicon))
                    known = False
                words.append(WORDS[said.setdefault(concept, int(lexicon[concept]))])
                weights.append(1.0 if known else UNPREDICTABLE_WEIGHT)
            options = (PLAIN_QUESTIONS if rng.random() < PLAIN_SHARE else QUESTIONS)[kind]
            turns.append(
                Turn(
                    image=int((colour * len(SHAPES) + shape) * self.renderings + rng.integers(self.renderings)),
                    question_ids=self.prompt_format.question_ids(options[rng.integers(len(options))]),
                    answer_ids=self.prompt_format.answer_ids(" ".join(words)),
                    weights=[*weights, END_WEIGHT],
                    concepts=concepts,
                )
            )
        return turns
