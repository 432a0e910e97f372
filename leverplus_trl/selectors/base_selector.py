# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""
What every selector is: a policy that takes one action after the other, each conditioned on those before it.

An action is a candidate, or, for a selector with `stop`, to end here. A model says how query and candidates become a
state, what the actions are worth in a state, and how a pick changes it; `forward` and `select` follow from that, and
so agree.

Throughout: B queries, K candidates, G sequences of one query, S shots, A actions: K, or K + 1 with STOP as the last.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..weights import check_weights, load_safetensors
from .base_selector_config import BaseSelectorConfig


STRATEGIES = ("greedy", "beam", "sample")
# A dimension that hardly varies in the pool is not blown up beyond this multiple of the average one.
MAX_RELATIVE_SCALE = 100.0

Tensors = dict[str, torch.Tensor]


@dataclass
class SelectorOutput(ModelOutput):
    """
    Args:
        logits (`torch.FloatTensor` of shape `[B, S, A]` or `[B, G, S, A]`):
            Scores of the actions at each step; the lowest number of the dtype for those that can't be taken.
        query_embeds (`torch.FloatTensor` of shape `[B, D]`, *optional*):
            Features of the queries, where the selector has encoded them itself.
        candidate_embeds (`torch.FloatTensor` of shape `[B, K, D]`, *optional*):
            The same of the candidates.
    """

    logits: torch.FloatTensor | None = None
    query_embeds: torch.FloatTensor | None = None
    candidate_embeds: torch.FloatTensor | None = None


@dataclass
class Selection(ModelOutput):
    """
    Args:
        demonstration_positions (`torch.LongTensor` of shape `[B, S]`):
            Chosen candidates in selection order; -1 where a selector with `stop` had ended.
        step_logprobs (`torch.FloatTensor` of shape `[B, S]`):
            Log-probability of each action given those before it: of the pick, or of ending at the step behind the last
            pick; 0 from there on.
        logprobs (`torch.FloatTensor` of shape `[B]`):
            Log-probability of the sequence, the sum of those of its steps.
        behaviour_logprobs (`torch.FloatTensor` of shape `[B]`):
            Log-probability under the distribution that the sequence was drawn from, temperature applied; `logprobs`
            where nothing was drawn.
    """

    demonstration_positions: torch.LongTensor | None = None
    step_logprobs: torch.FloatTensor | None = None
    logprobs: torch.FloatTensor | None = None
    behaviour_logprobs: torch.FloatTensor | None = None


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
        self.encoder: nn.Module | None = None  # of a selector that trains its encoder, too

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """
        As for every model, but from safetensors alone, and never with random weights in place of missing ones.

        Raises:
            `ValueError`: weights that are pickled, damaged, missing, NaN or infinite.
        """
        name, load = pretrained_model_name_or_path, super().from_pretrained
        wanted = kwargs.pop("output_loading_info", False)
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
        return (model, info) if wanted else model

    def load_encoder(self, copied: str | None = None, keep_trained: bool = False) -> None:
        """Reads the weights of the encoder that are not trained, for a selector that has one."""

    @abstractmethod
    def fit_inputs(self, query_embeds: torch.Tensor, candidate_embeds: torch.Tensor) -> None:
        """
        Prepares an untrained selector for its inputs; called once, before training.

        Args:
            query_embeds (`torch.FloatTensor` of shape `[N, D]`):
                Features that a query may have, of any examples, e.g. of the pool.
            candidate_embeds (`torch.FloatTensor` of shape `[N, D]`):
                Features that a candidate may have.
        """

    @abstractmethod
    def encode(
        self,
        query_embeds: torch.Tensor,
        candidate_embeds: torch.Tensor,
        candidate_mask: torch.Tensor,
        candidate_rows: torch.Tensor | None,
    ) -> tuple[Tensors, Tensors]:
        """Context, and the state before any pick with G = 1 (without `allowed`, which is the same for every model)."""

    @abstractmethod
    def score(self, context: Tensors, state: Tensors) -> torch.Tensor:
        """Logits `[B, G, A]` of the actions in a state; what is not allowed is masked by the caller."""

    @abstractmethod
    def advance(self, context: Tensors, state: Tensors, picks: torch.Tensor) -> Tensors:
        """The state (without `allowed`) after the picks `[B, G]`; -1 leaves a sequence as it is."""

    def forward(
        self,
        query_embeds: torch.Tensor,
        candidate_embeds: torch.Tensor,
        candidate_mask: torch.Tensor | None = None,
        demonstration_positions: torch.Tensor | None = None,
        candidate_rows: torch.Tensor | None = None,
    ) -> SelectorOutput:
        """
        Args:
            query_embeds (`torch.FloatTensor` of shape `[B, D]`):
                Features of the queries.
            candidate_embeds (`torch.FloatTensor` of shape `[B, K, D]`):
                Features of their candidates.
            candidate_mask (`torch.BoolTensor` of shape `[B, K]`, *optional*, defaults to all true):
                False for padding, wherever it stands.
            demonstration_positions (`torch.LongTensor` of shape `[B, S]` or `[B, G, S]`, *optional*):
                Picks in selection order, -1 padded on the right; G sequences of one query share its encoding. Without
                it there is one step, before any pick.
            candidate_rows (`torch.LongTensor` of shape `[B, K]`, *optional*):
                Row numbers of the candidates in the pool; read by selectors that know the examples by name.

        Returns:
            [`SelectorOutput`]: logits `[B, S, A]` or `[B, G, S, A]`; those of step t are conditioned on the first t
            picks (so the last pick is never read), and candidates picked before are masked. Logits behind the end of a
            sequence mean nothing.

        Raises:
            `ValueError`: inputs that are not those the selector was built for.
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

    def score_steps(self, context: Tensors, state: Tensors, picks: torch.Tensor) -> torch.Tensor:
        """Logits `[B, G, S, A]` of each step of given sequences `[B, G, S]`; the last pick is not read."""
        logits = [self.score(context, state)]
        for pick in picks[:, :, :-1].unbind(2):
            state = state | self.advance(context, state, pick)
            logits.append(self.score(context, state))
        return torch.stack(logits, dim=2)

    @torch.no_grad()
    def select(
        self,
        query_embeds: torch.Tensor,
        candidate_embeds: torch.Tensor,
        candidate_mask: torch.Tensor | None = None,
        candidate_rows: torch.Tensor | None = None,
        num_shots: int = 2,
        strategy: str = "greedy",
        num_beams: int = 5,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Selection:
        """
        Chooses demonstrations, one after the other.

        Args:
            query_embeds, candidate_embeds, candidate_mask, candidate_rows:
                As in [`~BaseSelectorModel.forward`].
            num_shots (`int`, *optional*, defaults to 2):
                How many to choose, with `stop` at most; may exceed what the selector was trained on.
            strategy (`str`, *optional*, defaults to `"greedy"`):
                `"greedy"`: the best action at each step; `"beam"`: the best sequence that a beam search finds;
                `"sample"`: a draw.
            num_beams (`int`, *optional*, defaults to 5):
                Width of the beam search.
            temperature (`float`, *optional*, defaults to 1.0):
                What logits are divided by before sampling.
            generator (`torch.Generator`, *optional*):
                Source of randomness for sampling.

        Returns:
            [`Selection`]: positions in selection order and log-probabilities, equal to what `forward` gives for them.

        Raises:
            `ValueError`: more shots than a query has candidates, a setting that makes no sense, or scores that are
                NaN or infinite.
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
        num_candidates = candidate_embeds.shape[1]
        available = int(state["allowed"][..., :num_candidates].sum(-1).min()) if len(query_embeds) else num_shots
        if num_shots > available:
            raise ValueError(
                f"num_shots is {num_shots}, but a query has only {available} candidates; lower num_shots or offer "
                "more."
            )
        # Bookkeeping that is reordered with the state: what was done so far, and whether a sequence goes on.
        size = (len(query_embeds), 1)
        state |= {
            "positions": query_embeds.new_empty((*size, 0), dtype=torch.long),
            "step_logprobs": query_embeds.new_empty((*size, 0)),
            "behaviour": query_embeds.new_zeros(size, dtype=torch.double),
            "open": torch.ones(size, dtype=torch.bool, device=query_embeds.device),
        }
        for _ in range(num_shots):
            logits = self._logits(context, state)  # [B, G, A]
            if self.config.stop:
                logits = _ended_stay_ended(logits, state["open"])
            logprobs = logits.log_softmax(-1)  # [B, G, A]
            drawn = (logits.double() / temperature).log_softmax(-1) if strategy == "sample" else logprobs  # [B, G, A]
            if strategy == "sample":
                flat = torch.multinomial(drawn.exp().squeeze(1), 1, generator=generator)  # [B, 1]
            else:
                possible = logits > torch.finfo(logits.dtype).min
                total = state["step_logprobs"].sum(-1, keepdim=True) + logprobs  # [B, G, A]
                total = total.masked_fill(~possible, -torch.inf).flatten(1)  # [B, G * A]
                width = num_beams if strategy == "beam" else 1
                flat = total.topk(min(width, total.shape[1]), dim=-1).indices  # [B, G']
            beams, actions = flat // logits.shape[-1], flat % logits.shape[-1]  # [B, G'] both
            rows = torch.arange(len(flat), device=flat.device).unsqueeze(1)  # [B, 1]
            picks = torch.where(actions < num_candidates, actions, -1)  # [B, G']
            chosen = logprobs[rows, beams, actions]  # [B, G']
            drawn = drawn[rows, beams, actions]  # [B, G']
            state = self._pick(context, {name: value[rows, beams] for name, value in state.items()}, picks)
            state["positions"] = torch.cat([state["positions"], picks.unsqueeze(-1)], dim=-1)  # [B, G', t + 1]
            state["step_logprobs"] = torch.cat([state["step_logprobs"], chosen.unsqueeze(-1)], dim=-1)
            state["behaviour"] = state["behaviour"] + drawn
            state["open"] = state["open"] & (picks >= 0)
        # topk puts the best first, and the other strategies have one sequence only
        step_logprobs = state["step_logprobs"][:, 0]  # [B, S]
        logprobs = step_logprobs.sum(-1)  # [B]
        return Selection(
            demonstration_positions=state["positions"][:, 0],
            step_logprobs=step_logprobs,
            logprobs=logprobs,
            behaviour_logprobs=state["behaviour"][:, 0].to(logprobs) if strategy == "sample" else logprobs,
        )

    def _start(
        self,
        query_embeds: torch.Tensor,
        candidate_embeds: torch.Tensor,
        candidate_mask: torch.Tensor | None,
        candidate_rows: torch.Tensor | None,
    ) -> tuple[Tensors, Tensors]:
        self._check_inputs(query_embeds, candidate_embeds, candidate_mask)
        if candidate_mask is None:
            candidate_mask = torch.ones(candidate_embeds.shape[:2], dtype=torch.bool, device=candidate_embeds.device)
        candidate_mask = candidate_mask.bool()
        # Padding may hold anything, NaN included, without a trace in values or gradients.
        candidate_embeds = candidate_embeds.masked_fill(~candidate_mask[..., None], 0.0)
        context, state = self.encode(query_embeds, candidate_embeds, candidate_mask, candidate_rows)
        allowed = candidate_mask
        if self.config.stop:
            allowed = torch.cat([allowed, torch.ones_like(allowed[:, :1])], dim=-1)  # [B, A]
        return context, state | {"allowed": allowed.unsqueeze(1)}

    def _logits(self, context: Tensors, state: Tensors) -> torch.Tensor:
        logits = self.score(context, state)  # [B, G, A]
        broken = (~logits.isfinite() & state["allowed"]).flatten(1).any(-1)  # [B]
        if broken.any():
            raise ValueError(
                f"The selector's scores of the candidates of query {int(broken.nonzero()[0])} of this batch are not "
                "finite: nothing can be chosen by them. Look for NaN in the embeddings, or train the selector again."
            )
        return logits.masked_fill(~state["allowed"], torch.finfo(logits.dtype).min)

    def _pick(self, context: Tensors, state: Tensors, picks: torch.Tensor) -> Tensors:
        return state | self.advance(context, state, picks) | {"allowed": _without(state["allowed"], picks)}

    def _check_inputs(
        self, query_embeds: torch.Tensor, candidate_embeds: torch.Tensor, candidate_mask: torch.Tensor | None
    ) -> None:
        config = self.config
        expected = (config.query_embed_dim, config.candidate_embed_dim)
        found = (query_embeds.shape[-1], candidate_embeds.shape[-1])
        if query_embeds.dim() != 2 or candidate_embeds.dim() != 3 or found != expected:
            raise ValueError(
                f"Got query_embeds {list(query_embeds.shape)} and candidate_embeds {list(candidate_embeds.shape)}; "
                f"this selector takes [B, {expected[0]}] ({' + '.join(config.query_features)}) and [B, K, "
                f"{expected[1]}] ({' + '.join(config.candidate_features)}), from the encoder {config.encoder!r}."
            )
        if candidate_mask is not None and candidate_mask.shape != candidate_embeds.shape[:2]:
            raise ValueError(
                f"Got a candidate_mask {list(candidate_mask.shape)} for candidates {list(candidate_embeds.shape[:2])}."
            )


def _without(allowed: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
    """Allowed actions `[B, G, A]` after the picks `[B, G]`; -1 takes nothing away."""
    taken = torch.zeros_like(allowed).scatter(2, picks.clamp(min=0).unsqueeze(-1), True)  # [B, G, A]
    return allowed & ~(taken & (picks >= 0).unsqueeze(-1))


def _ended_stay_ended(logits: torch.Tensor, going_on: torch.Tensor) -> torch.Tensor:
    """Of a sequence that has ended, STOP (the last action) is the only continuation: its probability is 1."""
    only_stop = torch.full_like(logits, torch.finfo(logits.dtype).min)
    only_stop[..., -1] = 0.0
    return torch.where(going_on.unsqueeze(-1), logits, only_stop)


@torch.no_grad()
def fit_statistics(features: torch.nn.Module, embeds: torch.Tensor) -> None:
    """
    Fills the buffers `feature_mean` and `feature_std` `[D]` of a module with those of embeddings `[N, D]`: embeddings
    of one encoder often share a large mean and vary little around it.
    """
    if embeds.shape[1] == 0:
        return
    std, mean = torch.std_mean(embeds.double(), dim=0, correction=0)  # [D] both
    floor = (std.mean() / MAX_RELATIVE_SCALE).clamp(min=torch.finfo(torch.float32).eps)
    features.feature_mean.copy_(mean)
    features.feature_std.copy_(std.clamp(min=floor))
