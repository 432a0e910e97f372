# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""
The base of all selectors: a policy that takes one action after the other, each conditioned on those before it.

An action is a candidate, or STOP for a selector with `stop`. A model implements how query and candidates become a
state, the scores of the actions in a state, and how a pick changes it; `forward` and `select` follow from that.

Throughout: B queries, K candidates, G sequences of one query, S shots, A actions: K, or K + 1 with STOP as the last.
"""

from dataclasses import dataclass

import torch
from torch import FloatTensor, LongTensor, Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..weights import check_weights, load_safetensors
from .base_selector_config import BaseSelectorConfig


STRATEGIES = ("greedy", "beam", "sample")
# The standard deviation of a dimension is at least the average divided by this.
MAX_RELATIVE_SCALE = 100.0

Tensors = dict[str, Tensor]


@dataclass
class SelectorOutput(ModelOutput):
    """Output of a selector."""

    #: `[B, S, A]` or `[B, G, S, A]`: scores of the actions at each step, the dtype's lowest number for forbidden ones.
    logits: FloatTensor | None = None
    #: `[B, D]` and `[B, K, D]`: the features, if the selector has encoded them itself.
    query_embeds: FloatTensor | None = None
    candidate_embeds: FloatTensor | None = None


@dataclass
class Selection(ModelOutput):
    """Selected candidates and the log-probabilities of these sequences."""

    #: `[B, S]`: picks in selection order, -1 after STOP.
    demonstration_positions: LongTensor | None = None
    #: `[B, S]`: log-probability of each action given those before it; 0 after STOP.
    step_logprobs: FloatTensor | None = None
    logprobs: FloatTensor | None = None  #: `[B]`: log-probability of the sequence, the sum over its steps.
    #: `[B]`: log-probability under the distribution that was sampled from, with temperature; else `logprobs`.
    behaviour_logprobs: FloatTensor | None = None


class BaseSelectorModel(PreTrainedModel):
    """
    Base of all selectors. A model implements [`~BaseSelectorModel.encode`], [`~BaseSelectorModel.score`] and
    [`~BaseSelectorModel.advance`].

    `context` holds tensors `[B, ...]` that no pick changes; `state` tensors `[B, G, ...]` that picks change, among
    them `allowed` `[B, G, A]`.
    """

    base_model_prefix = "selector"
    main_input_name = "query_embeds"

    def __init__(self, config: BaseSelectorConfig):
        super().__init__(config)
        self.encoder: nn.Module | None = None  # of a selector that trains its encoder

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """
        As for every model, but from safetensors alone, and never with random weights in place of missing ones.

        Raises:
            `ValueError`: weights that are pickled, damaged, missing, NaN or infinite.
        """
        name, load = pretrained_model_name_or_path, super().from_pretrained
        returns_info = kwargs.pop("output_loading_info", False)
        kwargs.pop("use_safetensors", None)  # nothing else is read
        options = {**kwargs, "output_loading_info": True}
        if name is None:  # a state dict is given
            model, info = load(None, *args, **options)
        else:
            model, info = load_safetensors(lambda name, **own: load(name, *args, **own), name, "selector", **options)
        missing = sorted(info["missing_keys"])
        if missing:
            raise ValueError(
                f"The selector {str(name)!r} has no weights for {missing[0]!r} ({len(missing)} are missing); expected "
                "the whole model.safetensors that belongs to its config.json."
            )
        read_elsewhere = model._keys_to_ignore_on_save or ()
        own = {key: value for key, value in model.state_dict().items() if key not in read_elsewhere}
        check_weights(own, f"the selector {str(name)!r}")
        return (model, info) if returns_info else model

    def load_encoder(self, copied: str | None = None, keep_trained: bool = False) -> None:
        """Reads the weights of the encoder that are not trained, for a selector that has an encoder."""

    def fit_inputs(self, query_embeds: Tensor, candidate_embeds: Tensor) -> None:
        """Prepares an untrained selector for its inputs, given features `[N, D]` that a query and a candidate may
        have, e.g. those of the pool."""

    def encode(
        self, query_embeds: Tensor, candidate_embeds: Tensor, candidate_mask: Tensor, candidate_rows: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        """Context, and the state before any pick with G = 1, without `allowed`."""

    def score(self, context: Tensors, state: Tensors) -> Tensor:
        """Logits `[B, G, A]` of the actions in a state, before forbidden actions are masked."""

    def advance(self, context: Tensors, state: Tensors, picks: Tensor) -> Tensors:
        """The state (without `allowed`) after the picks `[B, G]`; -1 leaves a sequence as it is."""

    def forward(
        self,
        query_embeds: Tensor,
        candidate_embeds: Tensor,
        candidate_mask: Tensor | None = None,
        demonstration_positions: Tensor | None = None,
        candidate_rows: Tensor | None = None,
    ) -> SelectorOutput:
        """
        Scores the actions at each step of given sequences.

        Args:
            query_embeds (`torch.FloatTensor` of shape `[B, D]`), candidate_embeds (`[B, K, D]`):
                Features of the queries and of their candidates.
            candidate_mask (`torch.BoolTensor` of shape `[B, K]`, *optional*, defaults to all true):
                False for padding, which may be anywhere.
            demonstration_positions (`torch.LongTensor` of shape `[B, S]` or `[B, G, S]`, *optional*):
                Picks in selection order, -1 padded on the right; G sequences of a query share its encoding. Without
                them there is one step, before any pick.
            candidate_rows (`torch.LongTensor` of shape `[B, K]`, *optional*):
                Rows of the candidates in the pool, for selectors that have an embedding of each.

        The logits of step t are conditioned on the first t picks (so the last pick is never read), and earlier picks
        are masked. Logits after the end of a sequence have no meaning.

        Raises:
            `ValueError`: the inputs have other shapes than in the config.
        """
        context, state = self._start(query_embeds, candidate_embeds, candidate_mask, candidate_rows)
        if demonstration_positions is None:
            demonstration_positions = torch.full_like(query_embeds[:, :1], -1, dtype=torch.long)
        grouped = demonstration_positions.dim() == 3
        picks = demonstration_positions if grouped else demonstration_positions[:, None]  # [B, G, S]
        groups = picks.shape[1]
        state = {name: value.expand(-1, groups, *value.shape[2:]) for name, value in state.items()}  # [B, 1] -> [B, G]
        allowed = [state.pop("allowed")]
        for pick in picks[:, :, :-1].unbind(2):
            allowed.append(_without(allowed[-1], pick))
        logits = self.score_steps(context, state, picks)  # [B, G, S, A]
        logits = logits.masked_fill(~torch.stack(allowed, dim=2), torch.finfo(logits.dtype).min)
        return SelectorOutput(logits=logits if grouped else logits.squeeze(1))

    def score_steps(self, context: Tensors, state: Tensors, picks: Tensor) -> Tensor:
        """Logits `[B, G, S, A]` of each step of given sequences `[B, G, S]`; the last pick is not read."""
        logits = [self.score(context, state)]
        for pick in picks[:, :, :-1].unbind(2):
            state = state | self.advance(context, state, pick)
            logits.append(self.score(context, state))
        return torch.stack(logits, dim=2)

    @torch.no_grad()
    def select(
        self,
        query_embeds: Tensor,
        candidate_embeds: Tensor,
        candidate_mask: Tensor | None = None,
        candidate_rows: Tensor | None = None,
        num_shots: int = 2,
        strategy: str = "greedy",
        num_beams: int = 5,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Selection:
        """
        Selects demonstrations for each query. The inputs are those of [`~BaseSelectorModel.forward`].

        Args:
            num_shots (`int`, *optional*, defaults to 2):
                Number of demonstrations, with `stop` the maximum; may exceed that of the training.
            strategy (`str`, *optional*, defaults to `"greedy"`):
                `"greedy"`: the best action at each step; `"beam"`: the best sequence of a beam search of width
                `num_beams`; `"sample"`: a sample at `temperature` from `generator`.

        Raises:
            `ValueError`: more shots than a query has candidates, an invalid setting, or scores that are NaN or
                infinite.
        """
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}.")
        whole = all(isinstance(count, int) and count >= 1 for count in (num_shots, num_beams))
        if not whole or isinstance(num_shots, bool) or not 0.0 < temperature < float("inf"):
            raise ValueError(
                f"num_shots is {num_shots}, num_beams {num_beams} and temperature {temperature}; expected whole "
                "numbers of at least 1, and a finite number above 0."
            )
        context, state = self._start(query_embeds, candidate_embeds, candidate_mask, candidate_rows)
        candidates = state["allowed"][..., : candidate_embeds.shape[1]]  # [B, 1, K]
        available = int(candidates.sum(-1).min()) if len(query_embeds) else num_shots
        if num_shots > available:
            raise ValueError(
                f"num_shots is {num_shots}, but a query has only {available} candidates; lower num_shots or offer "
                "more."
            )
        # These are reordered with the rest of the state.
        size = (len(query_embeds), 1)
        state |= {
            "positions": query_embeds.new_empty((*size, 0), dtype=torch.long),
            "step_logprobs": query_embeds.new_empty((*size, 0)),
            "behaviour": query_embeds.new_zeros(size, dtype=torch.double),
            "open": torch.ones(size, dtype=torch.bool, device=query_embeds.device),
        }
        for _ in range(num_shots):
            state = self._act(context, state, strategy, num_beams, temperature, generator)
        step_logprobs = state["step_logprobs"][:, 0]  # [B, S]
        logprobs = step_logprobs.sum(-1)  # [B]
        behaviour = state["behaviour"][:, 0].to(logprobs) if strategy == "sample" else logprobs
        return Selection(state["positions"][:, 0], step_logprobs, logprobs, behaviour)

    def _act(
        self,
        context: Tensors,
        state: Tensors,
        strategy: str,
        num_beams: int,
        temperature: float,
        generator: torch.Generator | None,
    ) -> Tensors:
        """The state after an action of each sequence. A beam search changes their number G to G', the best first."""
        logits = self._logits(context, state)  # [B, G, A]
        logprobs = logits.log_softmax(-1)  # [B, G, A]
        num_actions = logits.shape[-1]
        if strategy == "sample":
            behaviour = (logits.double() / temperature).log_softmax(-1)  # [B, 1, A]
            flat = torch.multinomial(behaviour.exp().squeeze(1), 1, generator=generator)  # [B, 1]
        else:
            behaviour, possible = logprobs, logits > torch.finfo(logits.dtype).min
            total = state["step_logprobs"].sum(-1, keepdim=True) + logprobs  # [B, G, A]
            total = total.masked_fill(~possible, -torch.inf).flatten(1)  # [B, G * A]
            width = num_beams if strategy == "beam" else 1
            flat = total.topk(min(width, total.shape[1]), dim=-1).indices  # [B, G']
        beams, actions = flat // num_actions, flat % num_actions  # [B, G'] both
        rows = torch.arange(len(flat), device=flat.device).unsqueeze(1)  # [B, 1]
        picks = torch.where(actions < num_actions - self.config.stop, actions, -1)  # [B, G']
        chosen = logprobs[rows, beams, actions].unsqueeze(-1)  # [B, G', 1]
        state = {name: value[rows, beams] for name, value in state.items()}
        after = {
            "allowed": _without(state["allowed"], picks),
            "positions": torch.cat([state["positions"], picks.unsqueeze(-1)], dim=-1),  # [B, G', t + 1]
            "step_logprobs": torch.cat([state["step_logprobs"], chosen], dim=-1),
            "behaviour": state["behaviour"] + behaviour[rows, beams, actions],
            "open": state["open"] & (picks >= 0),
        }
        return state | self.advance(context, state, picks) | after

    def _start(
        self, query_embeds: Tensor, candidate_embeds: Tensor, mask: Tensor | None, candidate_rows: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        """Context and first state of inputs, whose shapes are checked."""
        config, shape = self.config, candidate_embeds.shape
        expected = (config.query_embed_dim, config.candidate_embed_dim)
        widths = (query_embeds.shape[-1], shape[-1])
        if query_embeds.dim() != 2 or len(shape) != 3 or widths != expected:
            raise ValueError(
                f"Got query_embeds {list(query_embeds.shape)} and candidate_embeds {list(shape)}; this selector takes "
                f"[B, {expected[0]}] ({' + '.join(config.query_features)}) and [B, K, {expected[1]}] "
                f"({' + '.join(config.candidate_features)}), from the encoder {config.encoder!r}."
            )
        if mask is None:
            mask = torch.ones(shape[:2], dtype=torch.bool, device=candidate_embeds.device)
        if mask.shape != shape[:2]:
            raise ValueError(f"Got a candidate_mask {list(mask.shape)} for candidates {list(shape[:2])}.")
        allowed = mask.bool()
        # Padding may hold anything, NaN included, without a trace in values or gradients.
        candidate_embeds = candidate_embeds.masked_fill(~allowed[..., None], 0.0)
        context, state = self.encode(query_embeds, candidate_embeds, allowed, candidate_rows)
        if config.stop:
            allowed = torch.cat([allowed, torch.ones_like(allowed[:, :1])], dim=-1)  # [B, A]
        return context, state | {"allowed": allowed.unsqueeze(1)}

    def _logits(self, context: Tensors, state: Tensors) -> Tensor:
        """Masked logits `[B, G, A]`; after the end of a sequence, STOP has the probability 1."""
        logits = self.score(context, state)  # [B, G, A]
        broken = (~logits.isfinite() & state["allowed"]).flatten(1).any(-1)  # [B]
        if broken.any():
            raise ValueError(
                f"The scores of the candidates of query {int(broken.nonzero()[0])} of this batch are not finite, so "
                "nothing can be selected. Look for NaN in the embeddings, or train the selector again."
            )
        lowest = torch.finfo(logits.dtype).min
        logits = logits.masked_fill(~state["allowed"], lowest)
        if not self.config.stop:
            return logits
        only_stop = torch.full_like(logits, lowest)
        only_stop[..., -1] = 0.0
        return torch.where(state["open"].unsqueeze(-1), logits, only_stop)


def _without(allowed: Tensor, picks: Tensor) -> Tensor:
    """Allowed actions `[B, G, A]` after the picks `[B, G]`; -1 forbids nothing."""
    taken = torch.zeros_like(allowed).scatter(2, picks.clamp(min=0).unsqueeze(-1), True)  # [B, G, A]
    return allowed & ~(taken & (picks >= 0).unsqueeze(-1))


def action_mask(demonstration_positions: Tensor, stop: bool) -> Tensor:
    """
    The steps `[..., S]` at which a policy acted, given its picks `[..., S]` in selection order, -1 padded on the
    right. With `stop`, the first -1 of a sequence is an action; after S picks, the end is certain.
    """
    made = demonstration_positions >= 0  # [..., S]
    if not stop:
        return made
    before = torch.ones_like(made[..., :1])  # [..., 1]
    return torch.cat([before, made[..., :-1]], dim=-1)


def action_step_logprobs(logits: Tensor, demonstration_positions: Tensor, stop: bool) -> Tensor:
    """
    Log-probability `[..., S]` of each action of sequences `[..., S]`, given their logits `[..., S, A]` by `forward`; 0
    at the steps without action. With `stop`, the last action is STOP.
    """
    last = logits.shape[-1] - 1 if stop else 0
    actions = torch.where(demonstration_positions >= 0, demonstration_positions, last)  # [..., S]
    logprobs = logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)  # [..., S]
    return logprobs.masked_fill(~action_mask(demonstration_positions, stop), 0.0)


@torch.no_grad()
def fit_statistics(features: nn.Module, embeds: Tensor) -> None:
    """
    Sets the buffers `feature_mean` and `feature_std` `[D]` of a module to those of embeddings `[N, D]`: embeddings of
    an encoder often share a large mean and vary little around it.
    """
    if embeds.shape[1] == 0:
        return
    std, mean = torch.std_mean(embeds.double(), dim=0, correction=0)  # [D] both
    floor = (std.mean() / MAX_RELATIVE_SCALE).clamp(min=torch.finfo(torch.float32).eps)
    features.feature_mean.copy_(mean)
    features.feature_std.copy_(std.clamp(min=floor))
