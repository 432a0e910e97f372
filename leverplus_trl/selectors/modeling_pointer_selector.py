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
Pointer selectors: a query points at one candidate after the other, each pick conditioned on those before it.

Nothing here knows the order of the candidates, so a permutation of them permutes the logits and changes nothing else.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_pointer_selector import PointerSelectorConfig


STRATEGIES = ("greedy", "beam", "sample")
# A dimension that hardly varies in the pool is not blown up beyond this multiple of the average one.
MAX_RELATIVE_SCALE = 100.0


@dataclass
class PointerSelectorOutput(ModelOutput):
    """
    Args:
        logits (`torch.FloatTensor` of shape `[B, S, K]` or `[B, G, S, K]`):
            Scores of the candidates at each step; the lowest number of the dtype for candidates that can't be chosen.
    """

    logits: torch.FloatTensor | None = None


@dataclass
class Selection(ModelOutput):
    """
    Args:
        demonstration_positions (`torch.LongTensor` of shape `[B, S]`):
            Chosen candidates in selection order.
        step_logprobs (`torch.FloatTensor` of shape `[B, S]`):
            Log-probability of each pick given those before it.
        logprobs (`torch.FloatTensor` of shape `[B]`):
            Log-probability of the sequence, the sum of those of its steps.
    """

    demonstration_positions: torch.LongTensor | None = None
    step_logprobs: torch.FloatTensor | None = None
    logprobs: torch.FloatTensor | None = None


class PointerTower(nn.Module):
    """MLP over the concatenated features of a query or of a candidate."""

    def __init__(self, embed_dim: int, config: PointerSelectorConfig):
        super().__init__()
        widths = [embed_dim, *([config.hidden_size] * config.num_tower_layers)]
        self.layers = nn.ModuleList([nn.Linear(*pair) for pair in pairwise(widths)])
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("feature_mean", torch.zeros(embed_dim))
        self.register_buffer("feature_std", torch.ones(embed_dim))

    def forward(self, embeds: torch.Tensor) -> torch.Tensor:
        hidden = self.layers[0]((embeds - self.feature_mean) / self.feature_std)  # [..., D] -> [..., H]
        for layer in self.layers[1:]:
            hidden = layer(self.dropout(F.gelu(hidden)))
        return self.norm(hidden)


class ResidualLinear(nn.Linear):
    """
    Last layer of a residual branch. It starts as a whisper: the first steps then train the towers, and the query is
    not drowned in its candidates.
    """


class PointerCrossAttention(nn.Module):
    """A block in which states of the query attend to its candidates: pre-norm attention and feed-forward, residual."""

    def __init__(self, config: PointerSelectorConfig):
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_heads
        self.attention_norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size)
        # A bias of the keys would add the same to all scores of a softmax.
        self.key = nn.Linear(size, size, bias=False)
        self.value = nn.Linear(size, size)
        self.output = ResidualLinear(size, size)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.feed_forward_in = nn.Linear(size, 2 * size)
        self.feed_forward_out = ResidualLinear(2 * size, size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: torch.Tensor, candidates: torch.Tensor, candidate_mask: torch.Tensor) -> torch.Tensor:
        states = states + self.dropout(self.attend(self.attention_norm(states), candidates, candidate_mask))
        hidden = F.gelu(self.feed_forward_in(self.feed_forward_norm(states)))  # [B, G, 2H]
        return states + self.dropout(self.feed_forward_out(hidden))  # [B, G, H]

    def attend(self, states: torch.Tensor, candidates: torch.Tensor, candidate_mask: torch.Tensor) -> torch.Tensor:
        """
        Multi-head attention, with the projections of keys and values applied on the side of the query: there are many
        candidates and few states, so `(W_q h)ᵀ (W_k c) = (W_kᵀ W_q h)ᵀ c` costs a fraction of projecting every
        candidate.
        """
        heads, size = self.num_heads, states.shape[-1]
        queries = self.query(states).unflatten(-1, (heads, -1))  # [B, G, H] -> [B, G, heads, H/heads]
        keys = self.key.weight.unflatten(0, (heads, -1))  # [H, H] -> [heads, H/heads, H]
        queries = torch.einsum("bghd,hde->bghe", queries, keys)  # [B, G, heads, H]
        scores = torch.einsum("bghe,bke->bghk", queries, candidates) / math.sqrt(size // heads)  # [B, G, heads, K]
        scores = scores.masked_fill(~candidate_mask[:, None, None], torch.finfo(scores.dtype).min)
        context = torch.einsum("bghk,bke->bghe", scores.softmax(-1), candidates)  # [B, G, heads, H]
        values = self.value.weight.unflatten(0, (heads, -1))  # [H, H] -> [heads, H/heads, H]
        context = torch.einsum("bghe,hde->bghd", context, values).flatten(2) + self.value.bias  # [B, G, H]
        return self.output(context)


class PointerHistory(nn.Module):
    """How a pick changes the query's state."""

    def __init__(self, config: PointerSelectorConfig):
        super().__init__()
        size, self.kind = config.hidden_size, config.history
        if self.kind == "scalar_gate":
            self.gate = nn.Parameter(torch.zeros(()))
            self.value = nn.Linear(size, size)
        elif self.kind == "vector_gate":
            self.gate = nn.Linear(2 * size, size)
            self.value = nn.Linear(size, size)
        elif self.kind == "gru":
            self.cell = nn.GRUCell(size, size)

    def forward(self, states: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        """States `[B, G, H]` before and picked candidates `[B, G, H]` -> states `[B, G, H]` after."""
        if self.kind == "none":
            return states
        if self.kind == "gru":
            return self.cell(picks.flatten(0, 1), states.flatten(0, 1)).view_as(states)
        gate = (
            self.gate if self.kind == "scalar_gate" else self.gate(torch.cat([states, picks], dim=-1))
        )  # [] or [B, G, H]
        return gate.sigmoid() * states + (1.0 - gate.sigmoid()) * self.value(picks)


class PointerSelectorPreTrainedModel(PreTrainedModel):
    config_class = PointerSelectorConfig
    base_model_prefix = "selector"
    main_input_name = "query_embeds"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight, gain=0.1 if isinstance(module, ResidualLinear) else 1.0)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.GRUCell):
            for weight in module.parameters():
                init.uniform_(weight, -1.0 / math.sqrt(module.hidden_size), 1.0 / math.sqrt(module.hidden_size))
        elif isinstance(module, PointerTower):
            init.zeros_(module.feature_mean)
            init.ones_(module.feature_std)
        elif isinstance(module, PointerHistory) and module.kind == "scalar_gate":
            init.zeros_(module.gate)
        elif isinstance(module, PointerSelectorModel):
            init.constant_(module.log_temperature, math.log(self.config.initial_temperature))


class PointerSelectorModel(PointerSelectorPreTrainedModel):
    """
    Points at candidates by the cosine between the query's state and each candidate, divided by a learned temperature.

    Two towers embed query and candidates; the query then attends to the candidates (`num_cross_attention_layers`
    blocks); after each pick the state takes in what was picked (`history`), so that the next pick can complement it.
    """

    def __init__(self, config: PointerSelectorConfig):
        super().__init__(config)
        self.query_tower = PointerTower(config.query_embed_dim, config)
        self.candidate_tower = PointerTower(config.candidate_embed_dim, config)
        self.cross_attention = nn.ModuleList(
            [PointerCrossAttention(config) for _ in range(config.num_cross_attention_layers)]
        )
        self.state_norm = nn.LayerNorm(config.hidden_size)
        self.history = PointerHistory(config)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.initial_temperature)))
        self.post_init()

    @torch.no_grad()
    def fit_inputs(self, query_embeds: torch.Tensor, candidate_embeds: torch.Tensor) -> None:
        """
        Prepares an untrained selector for its inputs; called once, before training.

        Features are standardised by the statistics of the examples given (embeddings of one encoder often share a
        large mean and vary little around it). Where query and candidates have the same features, both towers start
        with the same weights: an untrained selector then ranks by similarity, and learns from 300 queries what is
        different from it.

        Args:
            query_embeds (`torch.FloatTensor` of shape `[N, D]`):
                Features that a query may have, of any examples, e.g. of the pool.
            candidate_embeds (`torch.FloatTensor` of shape `[N, D]`):
                Features that a candidate may have.
        """
        for tower, embeds in ((self.query_tower, query_embeds), (self.candidate_tower, candidate_embeds)):
            std, mean = torch.std_mean(embeds.double(), dim=0, correction=0)  # [D] both
            floor = (std.mean() / MAX_RELATIVE_SCALE).clamp(min=torch.finfo(torch.float32).eps)
            tower.feature_mean.copy_(mean)
            tower.feature_std.copy_(std.clamp(min=floor))
        if self.config.query_features == self.config.candidate_features:
            for own, other in zip(self.candidate_tower.layers, self.query_tower.layers, strict=True):
                own.load_state_dict(other.state_dict())

    def forward(
        self,
        query_embeds: torch.Tensor,
        candidate_embeds: torch.Tensor,
        candidate_mask: torch.Tensor | None = None,
        demonstration_positions: torch.Tensor | None = None,
    ) -> PointerSelectorOutput:
        """
        Args:
            query_embeds (`torch.FloatTensor` of shape `[B, D]`):
                Features of the queries.
            candidate_embeds (`torch.FloatTensor` of shape `[B, K, D]`):
                Features of their candidates.
            candidate_mask (`torch.BoolTensor` of shape `[B, K]`, *optional*, defaults to all true):
                False for padding, wherever it stands.
            demonstration_positions (`torch.LongTensor` of shape `[B, S]` or `[B, G, S]`, *optional*):
                Picks in selection order, -1 for none (padding, or a step that changes nothing); G sequences of one
                query share its encoding. Without it there is one step, before any pick.

        Returns:
            [`PointerSelectorOutput`]: logits `[B, S, K]` or `[B, G, S, K]`; those of step t are conditioned on the
            first t picks (so the last pick is never read), and candidates picked before are masked.
        """
        states, candidates, keys, allowed = self._encode(query_embeds, candidate_embeds, candidate_mask)
        if demonstration_positions is None:
            demonstration_positions = torch.full_like(query_embeds[:, :1], -1, dtype=torch.long)
        grouped = demonstration_positions.dim() == 3
        picks = demonstration_positions if grouped else demonstration_positions[:, None]  # [B, G, S]
        states = states.expand(-1, picks.shape[1], -1)  # [B, 1, H] -> [B, G, H]
        allowed = allowed.expand(-1, picks.shape[1], -1)  # [B, 1, K] -> [B, G, K]
        logits = []
        for step in range(picks.shape[2]):
            if step:
                states, allowed = self._pick(states, allowed, candidates, picks[:, :, step - 1])
            logits.append(self._score(states, keys, allowed))
        stacked = torch.stack(logits, dim=2)  # [B, G, S, K]
        return PointerSelectorOutput(logits=stacked if grouped else stacked.squeeze(1))

    def _encode(
        self, query_embeds: torch.Tensor, candidate_embeds: torch.Tensor, candidate_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        State `[B, 1, H]` before any pick, candidates and their unit vectors `[B, K, H]`, who is allowed `[B, 1, K]`.
        """
        self._check_inputs(query_embeds, candidate_embeds, candidate_mask)
        if candidate_mask is None:
            candidate_mask = torch.ones(candidate_embeds.shape[:2], dtype=torch.bool, device=candidate_embeds.device)
        candidate_mask = candidate_mask.bool()
        # Padding may hold anything, NaN included, without a trace in values or gradients.
        candidate_embeds = candidate_embeds.masked_fill(~candidate_mask[..., None], 0.0)
        candidates = self.candidate_tower(candidate_embeds)  # [B, K, D] -> [B, K, H]
        states = self.query_tower(query_embeds).unsqueeze(1)  # [B, D] -> [B, 1, H]
        for block in self.cross_attention:
            states = block(states, candidates, candidate_mask)
        return states, candidates, F.normalize(candidates, dim=-1), candidate_mask.unsqueeze(1)

    def _check_inputs(
        self, query_embeds: torch.Tensor, candidate_embeds: torch.Tensor, candidate_mask: torch.Tensor | None
    ) -> None:
        expected = (self.config.query_embed_dim, self.config.candidate_embed_dim)
        found = (query_embeds.shape[-1], candidate_embeds.shape[-1])
        if query_embeds.dim() != 2 or candidate_embeds.dim() != 3 or found != expected:
            raise ValueError(
                f"Got query_embeds {list(query_embeds.shape)} and candidate_embeds {list(candidate_embeds.shape)}; "
                f"this selector takes [B, {expected[0]}] ({' + '.join(self.config.query_features)}) and [B, K, "
                f"{expected[1]}] ({' + '.join(self.config.candidate_features)}), from the encoder "
                f"{self.config.encoder!r}."
            )
        if candidate_mask is not None and candidate_mask.shape != candidate_embeds.shape[:2]:
            raise ValueError(
                f"Got a candidate_mask {list(candidate_mask.shape)} for candidates {list(candidate_embeds.shape[:2])}."
            )

    def _score(self, states: torch.Tensor, keys: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        pointers = F.normalize(self.state_norm(states), dim=-1)  # [B, G, H]
        logits = pointers @ keys.transpose(1, 2) * (-self.log_temperature).exp()  # [B, G, K]
        return logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)

    def _pick(
        self, states: torch.Tensor, allowed: torch.Tensor, candidates: torch.Tensor, picks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States and allowed candidates after the picks `[B, G]`; -1 leaves both as they are."""
        made = (picks >= 0).unsqueeze(-1)  # [B, G, 1]
        index = picks.clamp(min=0).unsqueeze(-1)  # [B, G, 1]
        picked = candidates.gather(1, index.expand(-1, -1, candidates.shape[-1]))  # [B, K, H] -> [B, G, H]
        states = torch.where(made, self.history(states, picked), states)
        return states, allowed & ~(torch.zeros_like(allowed).scatter(2, index, True) & made)

    @torch.no_grad()
    def select(
        self,
        query_embeds: torch.Tensor,
        candidate_embeds: torch.Tensor,
        candidate_mask: torch.Tensor | None = None,
        num_shots: int = 2,
        strategy: str = "greedy",
        num_beams: int = 5,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Selection:
        """
        Chooses demonstrations, one after the other.

        Args:
            query_embeds (`torch.FloatTensor` of shape `[B, D]`):
                Features of the queries.
            candidate_embeds (`torch.FloatTensor` of shape `[B, K, D]`):
                Features of their candidates.
            candidate_mask (`torch.BoolTensor` of shape `[B, K]`, *optional*, defaults to all true):
                False for padding.
            num_shots (`int`, *optional*, defaults to 2):
                How many to choose; may exceed what the selector was trained on.
            strategy (`str`, *optional*, defaults to `"greedy"`):
                `"greedy"`: the best candidate at each step; `"beam"`: the best sequence that a beam search finds;
                `"sample"`: a draw.
            num_beams (`int`, *optional*, defaults to 5):
                Width of the beam search.
            temperature (`float`, *optional*, defaults to 1.0):
                What logits are divided by before sampling. Log-probabilities are those of the policy itself, at 1.0.
            generator (`torch.Generator`, *optional*):
                Source of randomness for sampling.

        Returns:
            [`Selection`]: positions in selection order and log-probabilities, equal to what `forward` gives for them.

        Raises:
            `ValueError`: more shots than a query has candidates, or a setting that makes no sense.
        """
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}.")
        if num_shots < 1 or num_beams < 1 or not temperature > 0.0:
            raise ValueError(
                f"num_shots is {num_shots}, num_beams {num_beams} and temperature {temperature}; expected at least 1, "
                "at least 1 and above 0."
            )
        states, candidates, keys, allowed = self._encode(query_embeds, candidate_embeds, candidate_mask)
        available = int(allowed.sum(-1).min()) if len(allowed) else num_shots
        if num_shots > available:
            raise ValueError(
                f"num_shots is {num_shots}, but a query has only {available} candidates; lower num_shots or offer "
                "more."
            )
        width = num_beams if strategy == "beam" else 1
        positions = query_embeds.new_empty((len(query_embeds), 1, 0), dtype=torch.long)
        step_logprobs = query_embeds.new_empty((len(query_embeds), 1, 0))
        for _ in range(num_shots):
            logits = self._score(states, keys, allowed)  # [B, G, K]
            logprobs = logits.log_softmax(-1)
            if strategy == "sample":
                probs = (logits.double() / temperature).softmax(-1).squeeze(1)  # [B, K]
                flat = torch.multinomial(probs, 1, generator=generator)  # [B, 1]
            else:
                total = step_logprobs.sum(-1, keepdim=True) + logprobs  # [B, G, K]
                total = total.masked_fill(~allowed, -torch.inf).flatten(1)  # [B, G * K]
                flat = total.topk(min(width, total.shape[1]), dim=-1).indices  # [B, G']
            beams, picks = flat // logprobs.shape[-1], flat % logprobs.shape[-1]  # [B, G'] both
            rows = torch.arange(len(flat), device=flat.device).unsqueeze(1)  # [B, 1]
            chosen = logprobs[rows, beams, picks].unsqueeze(-1)  # [B, G', 1]
            positions = torch.cat([positions[rows, beams], picks.unsqueeze(-1)], dim=-1)  # [B, G', t + 1]
            step_logprobs = torch.cat([step_logprobs[rows, beams], chosen], dim=-1)  # [B, G', t + 1]
            states, allowed = self._pick(states[rows, beams], allowed[rows, beams], candidates, picks)
        # topk puts the best first, and the other strategies have one sequence only
        step_logprobs = step_logprobs[:, 0]  # [B, S]
        return Selection(
            demonstration_positions=positions[:, 0], step_logprobs=step_logprobs, logprobs=step_logprobs.sum(-1)
        )
