# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""
The selector of Lever-LM (Yang et al., NeurIPS 2024): a small GPT-2 whose words are the examples of one pool.

Its sentence is BOS, QUERY, first pick, second pick, ..., EOS. Features of the query are added to the embedding of
QUERY, features of an example to that of its word. Another pool needs another model.

Departures from the reference implementation:
- Probabilities are over the query's K candidates, not over the whole pool, as for every selector here.
- Features are stored embeddings, standardised by the pool's statistics, through one linear layer each. The reference
  adds normalised CLIP features as they are (or through an adapter), which ties the width to CLIP's.
- EOS is an action only with `stop`. The reference bans it in generation.
"""

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model
from transformers import initialization as init

from .base_selector import BaseSelectorModel, Tensors, fit_statistics
from .configuration_gpt2_selector import GPT2SelectorConfig


#: Words after those of the pool.
BOS, QUERY, EOS = range(3)
PREFIX = 2  # BOS and QUERY
INITIALIZER_RANGE = 0.02  # as GPT-2


class GPT2Features(nn.Module):
    """Standardises the features `[..., D]` of a query or an example and projects them to word embeddings."""

    def __init__(self, embed_dim: int, hidden_size: int):
        super().__init__()
        self.projection = nn.Linear(embed_dim, hidden_size, bias=False) if embed_dim else None
        self.register_buffer("feature_mean", torch.zeros(embed_dim))
        self.register_buffer("feature_std", torch.ones(embed_dim))

    def forward(self, embeds: Tensor) -> Tensor:
        if self.projection is None:
            return embeds.new_zeros(())
        return self.projection((embeds - self.feature_mean) / self.feature_std)  # [..., D] -> [..., W]


class GPT2SelectorModel(BaseSelectorModel):
    """A GPT-2 over the examples of a pool, restricted to the candidates of a query. It needs `candidate_rows`."""

    config_class = GPT2SelectorConfig

    def __init__(self, config: GPT2SelectorConfig):
        super().__init__(config)
        self.transformer = GPT2Model(
            GPT2Config(
                vocab_size=config.pool_size + 3,
                n_positions=PREFIX + config.max_shots - 1,  # the last pick is never read
                n_embd=config.hidden_size,
                n_layer=config.num_layers,
                n_head=config.num_heads,
                resid_pdrop=config.dropout,
                embd_pdrop=config.dropout,
                attn_pdrop=config.dropout,
                bos_token_id=config.pool_size + BOS,
                eos_token_id=config.pool_size + EOS,
                use_cache=False,
            )
        )
        self.query_features = GPT2Features(config.query_embed_dim, config.hidden_size)
        self.candidate_features = GPT2Features(config.candidate_embed_dim, config.hidden_size)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, GPT2Features) and module.projection is not None:
            init.normal_(module.projection.weight, std=INITIALIZER_RANGE)
            init.zeros_(module.feature_mean)
            init.ones_(module.feature_std)

    def fit_inputs(self, query_embeds: Tensor, candidate_embeds: Tensor) -> None:
        """Standardises features by the statistics of these examples."""
        fit_statistics(self.query_features, query_embeds)
        fit_statistics(self.candidate_features, candidate_embeds)

    def encode(
        self, query_embeds: Tensor, candidate_embeds: Tensor, candidate_mask: Tensor, candidate_rows: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        size = self.config.pool_size
        if candidate_rows is None or (candidate_rows >= size).any():
            raise ValueError(
                f"A GPT-2 selector names examples by their row in the pool of {size} examples that it was trained on, "
                f"and got candidate_rows {'of another pool' if candidate_rows is not None else None}."
            )
        words = self.transformer.wte
        rows = candidate_rows.clamp(min=0)  # [B, K]; padding is -1
        special = words.weight[size:]  # [3, W]
        query = special[QUERY] + self.query_features(query_embeds)  # [B, D] -> [B, W]
        prefix = torch.stack([special[BOS].expand_as(query), query], dim=1)  # [B, 2, W]
        outputs = words(rows)  # [B, K, W]
        context = {"inputs": outputs + self.candidate_features(candidate_embeds), "outputs": outputs}
        if self.config.stop:
            context["outputs"] = torch.cat([outputs, special[EOS].expand(len(rows), 1, -1)], dim=1)  # [B, A, W]
        return context, {"sentence": prefix.unsqueeze(1)}

    def score(self, context: Tensors, state: Tensors) -> Tensor:
        return self._next_words(context, state["sentence"])[:, :, -1]  # [B, G, A]

    def score_steps(self, context: Tensors, state: Tensors, picks: Tensor) -> Tensor:
        """All steps in one pass: with causal attention, later words do not change a step."""
        index = picks[:, :, :-1].clamp(min=0).flatten(1).unsqueeze(-1)  # [B, G * (S - 1), 1]
        words = context["inputs"].gather(1, index.expand(-1, -1, self.config.hidden_size))
        words = words.unflatten(1, (picks.shape[1], -1))  # [B, G, S - 1, W]
        sentence = torch.cat([state["sentence"], words], dim=2)  # [B, G, S + 1, W]
        return self._next_words(context, sentence)[:, :, PREFIX - 1 :]  # [B, G, S, A]

    def _next_words(self, context: Tensors, sentence: Tensor) -> Tensor:
        """Logits `[B, G, T, A]` of the next word after each word of sentences `[B, G, T, W]`."""
        if sentence.shape[2] >= PREFIX + self.config.max_shots:
            raise ValueError(f"This selector gives at most {self.config.max_shots} shots (`max_shots`).")
        hidden = self.transformer(inputs_embeds=sentence.flatten(0, 1)).last_hidden_state  # [B * G, T, W]
        return torch.einsum("bgtw,baw->bgta", hidden.unflatten(0, sentence.shape[:2]), context["outputs"])

    def advance(self, context: Tensors, state: Tensors, picks: Tensor) -> Tensors:
        index = picks.clamp(min=0).unsqueeze(-1).expand(-1, -1, context["inputs"].shape[-1])  # [B, G, W]
        word = context["inputs"].gather(1, index).unsqueeze(2)  # [B, G, 1, W]
        return {"sentence": torch.cat([state["sentence"], word], dim=2)}
