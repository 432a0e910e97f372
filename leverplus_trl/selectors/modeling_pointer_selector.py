# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Pointer selectors: a query points at one candidate after the other, each pick conditioned on those before it. The
order of the candidates has no effect: permuting them permutes the logits.
"""

import math
import re
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel
from transformers import initialization as init

from ..provenance import model_revision
from .base_selector import BaseSelectorModel, SelectorOutput, Tensors, fit_statistics
from .configuration_pointer_selector import PointerSelectorConfig
from .encoder_lora import AdaptedEncoder, copied_encoder, copy_encoder
from .processing_selector import SelectorProcessor


# Its softplus is 0.018: the penalty starts near 0, and can still be learned.
INITIAL_RAW_DIVERSITY = -4.0


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

    def forward(self, embeds: Tensor) -> Tensor:
        hidden = self.layers[0]((embeds - self.feature_mean) / self.feature_std)  # [..., D] -> [..., H]
        for layer in self.layers[1:]:
            hidden = layer(self.dropout(F.gelu(hidden)))
        return self.norm(hidden)


class ResidualLinear(nn.Linear):
    """Last layer of a residual branch, with small initial weights, so that the first steps train the towers."""


class PointerAttention(nn.Module):
    """A pre-norm residual block in which states (of the query, or of the candidates) attend to the candidates."""

    def __init__(self, config: PointerSelectorConfig):
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_heads
        self.attention_norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size)
        # A bias of the keys would not change the softmax.
        self.key = nn.Linear(size, size, bias=False)
        self.value = nn.Linear(size, size)
        self.output = ResidualLinear(size, size)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.feed_forward_in = nn.Linear(size, 2 * size)
        self.feed_forward_out = ResidualLinear(2 * size, size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor, candidates: Tensor, candidate_mask: Tensor) -> Tensor:
        states = states + self.dropout(self.attend(self.attention_norm(states), candidates, candidate_mask))
        hidden = F.gelu(self.feed_forward_in(self.feed_forward_norm(states)))  # [B, G, 2H]
        return states + self.dropout(self.feed_forward_out(hidden))  # [B, G, H]

    def attend(self, states: Tensor, candidates: Tensor, candidate_mask: Tensor) -> Tensor:
        """Multi-head attention by `(W_q h)ᵀ (W_k c) = (W_kᵀ W_q h)ᵀ c`: projecting the few states costs less than
        projecting the many candidates."""
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

    def forward(self, states: Tensor, picks: Tensor) -> Tensor:
        """States `[B, G, H]` before and picked candidates `[B, G, H]` -> states `[B, G, H]` after."""
        if self.kind == "none":
            return states
        if self.kind == "gru":
            return self.cell(picks.flatten(0, 1), states.flatten(0, 1)).view_as(states)
        # [] or [B, G, H]
        gate = self.gate if self.kind == "scalar_gate" else self.gate(torch.cat([states, picks], dim=-1))
        return gate.sigmoid() * states + (1.0 - gate.sigmoid()) * self.value(picks)


class PointerScorer(nn.Module):
    """The score of each action in a state."""

    def __init__(self, config: PointerSelectorConfig):
        super().__init__()
        size = config.hidden_size
        self.scoring, self.ends = config.scoring, config.stop
        self.state_norm = nn.LayerNorm(size)
        self.log_temperature = nn.Parameter(
            torch.tensor(math.log(config.initial_temperature)), requires_grad=config.learn_temperature
        )
        if config.stop:
            self.stop = nn.Parameter(torch.zeros(size))
        if config.scoring == "additive":
            self.state = nn.Linear(size, size)
            self.candidate = nn.Linear(size, size, bias=False)
            self.weight = ResidualLinear(size, 1, bias=False)
        if config.diversity == "mmr":
            self.raw_diversity = nn.Parameter(torch.tensor(INITIAL_RAW_DIVERSITY))

    def forward(self, states: Tensor, context: Tensors, redundancy: Tensor | None) -> Tensor:
        """States `[B, G, H]` -> logits `[B, G, A]`; `redundancy` `[B, G, K]` is 0 before any pick."""
        states = self.state_norm(states)
        if self.scoring == "cosine":
            scores = F.normalize(states, dim=-1) @ context["keys"].transpose(1, 2)  # [B, G, A]
        else:
            hidden = self.state(states).unsqueeze(2) + context["keys"].unsqueeze(1)  # [B, G, A, H]
            scores = self.weight(hidden.tanh()).squeeze(-1)  # [B, G, A]
        if redundancy is not None:
            penalty = F.softplus(self.raw_diversity) * redundancy  # [B, G, K]
            scores = scores - F.pad(penalty, (0, scores.shape[-1] - penalty.shape[-1]))
        return scores * (-self.log_temperature).exp()

    def keys(self, candidates: Tensor) -> Tensor:
        """Candidates `[B, K, H]` -> the vectors of the actions, `[B, A, H]`; that of STOP is learned."""
        if self.ends:
            candidates = torch.cat([candidates, self.stop.expand(len(candidates), 1, -1)], dim=1)  # [B, A, H]
        return F.normalize(candidates, dim=-1) if self.scoring == "cosine" else self.candidate(candidates)


class PointerSelectorModel(BaseSelectorModel):
    """
    Points at candidates by a score between the query's state and each candidate, divided by a temperature.

    Two towers embed query and candidates; the candidates may attend to each other (`candidate_encoder_layers`), the
    query attends to the candidates (`num_cross_attention_layers`); each pick changes the state (`history`), so that
    the next pick can complement it, and may lower the scores of similar candidates (`diversity`).

    With `lora` it has an encoder of its own, and reads pixels and tokens. `from_pretrained` loads the encoder's
    weights; after `PointerSelectorModel(config)` call [`~PointerSelectorModel.load_encoder`].
    """

    config_class = PointerSelectorConfig
    supports_gradient_checkpointing = True  # of the encoder

    def __init__(self, config: PointerSelectorConfig):
        super().__init__(config)
        self.query_tower = PointerTower(config.query_embed_dim, config)
        self.candidate_tower = PointerTower(config.candidate_embed_dim, config)
        blocks = [PointerAttention(config) for _ in range(config.candidate_encoder_layers)]
        self.candidate_encoder = nn.ModuleList(blocks)
        blocks = [PointerAttention(config) for _ in range(config.num_cross_attention_layers)]
        self.cross_attention = nn.ModuleList(blocks)
        self.history = PointerHistory(config)
        self.scorer = PointerScorer(config)
        if config.step_embeddings:
            self.step_embeddings = nn.Embedding(config.num_shots, config.hidden_size)
        if config.lora is not None:
            self.encoder = AdaptedEncoder(config)
        self.post_init()
        if self.encoder is not None:
            names = {name for name, _ in self.encoder.clip.named_parameters()}
            frozen = {f"encoder.clip.{name}" for name in names - self.encoder.trained_names}
            self._keys_to_ignore_on_save = frozen
            self._keys_to_ignore_on_load_missing = {f"^{re.escape(name)}$" for name in frozen}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """
        As for every model. With `lora`, the encoder is read from its copy in the selector's folder, else from where
        the config says (`encoder=PATH` if it is elsewhere now), see [`~PointerSelectorModel.load_encoder`].
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.encoder is not None:
            hub = {"revision", "token", "cache_dir", "local_files_only"} & kwargs.keys()
            name = pretrained_model_name_or_path  # `None` if a state dict is given
            copied = name and copied_encoder(str(name), **{key: kwargs[key] for key in hub})
            model.load_encoder(copied, keep_trained=True)
        return loaded

    def load_encoder(self, copied: str | None = None, keep_trained: bool = False) -> None:
        """
        Reads the weights of the encoder that are not trained, from the folder `copied` or from the encoder that the
        config names; `keep_trained` keeps the biases that are trained. Without `lora` it does nothing.

        Raises:
            `ValueError`: the encoder is missing, or is not the encoder that the adapters were trained on.
        """
        if self.encoder is not None:
            source = (copied, None) if copied else (self.config.encoder, self.config.encoder_revision)
            self.config.check_encoder(*source)
            self.encoder.load_base(*source, keep_trained)

    def merge_and_unload(self, save_directory: str | None = None) -> tuple[CLIPModel, "PointerSelectorModel"]:
        """
        Merges the adapters into the encoder. Returns a CLIP model and a selector without `lora` that selects in the
        same way, and saves both in the folder `save_directory`, if it is given; this selector does not change.
        Samplers by similarity draw other candidates, since the encoder has changed. Raises `ValueError` without
        `lora`.
        """
        if self.encoder is None:
            raise ValueError("This selector has no adapters (lora), so there is nothing to merge.")
        clip, config = self.encoder.merged(), self.config_class.from_dict(self.config.to_dict())
        config.lora = config.encoder_config = config.encoder = config.encoder_revision = config.encoder_commit = None
        if save_directory is not None:
            config.encoder = str(Path(save_directory) / "encoder")
            copy_encoder(*self.encoder.source, Path(save_directory))  # its tokenizer and its image processor
            for weights in Path(config.encoder).glob("*.safetensors*"):
                weights.unlink()
            clip.save_pretrained(config.encoder)
            config.encoder_commit = model_revision(config.encoder)
        selector = type(self)(config).to(self.device).eval()
        own = {name: value for name, value in self.state_dict().items() if not name.startswith("encoder.")}
        selector.load_state_dict(own)
        if save_directory is not None:
            selector.save_pretrained(save_directory)
            SelectorProcessor(config.query_features, config.candidate_features).save_pretrained(save_directory)
        return clip, selector

    def forward(
        self,
        query_embeds: Tensor | None = None,
        candidate_embeds: Tensor | None = None,
        candidate_mask: Tensor | None = None,
        demonstration_positions: Tensor | None = None,
        candidate_rows: Tensor | None = None,
        **encoder_inputs: Tensor,
    ) -> SelectorOutput:
        """
        See [`BaseSelectorModel.forward`]. With `lora`, `encoder_inputs` (those of [`AdaptedEncoder`]) may replace
        `query_embeds` and `candidate_embeds`, which are then part of the output.
        """
        rest = (candidate_mask, demonstration_positions, candidate_rows)
        if query_embeds is not None:
            return super().forward(query_embeds, candidate_embeds, *rest)
        if self.encoder is None:
            raise ValueError("Got no query_embeds, and this selector has no encoder of its own (lora).")
        query_embeds, candidate_embeds = self.encoder(**encoder_inputs)  # [B, D], [B, K, D]
        output = super().forward(query_embeds, candidate_embeds, *rest)
        output.query_embeds, output.candidate_embeds = query_embeds, candidate_embeds
        return output

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight, gain=0.1 if isinstance(module, ResidualLinear) else 1.0)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.zeros_(module.weight)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.GRUCell):
            bound = 1.0 / math.sqrt(module.hidden_size)
            for weight in module.parameters():
                init.uniform_(weight, -bound, bound)
        elif isinstance(module, PointerTower):
            init.zeros_(module.feature_mean)
            init.ones_(module.feature_std)
        elif isinstance(module, PointerHistory) and module.kind == "scalar_gate":
            init.zeros_(module.gate)
        elif isinstance(module, PointerScorer):
            init.constant_(module.log_temperature, math.log(self.config.initial_temperature))
            if self.config.stop:
                init.normal_(module.stop, std=1.0)
            if self.config.diversity == "mmr":
                init.constant_(module.raw_diversity, INITIAL_RAW_DIVERSITY)

    @torch.no_grad()
    def fit_inputs(self, query_embeds: Tensor, candidate_embeds: Tensor) -> None:
        """
        Standardises features by the statistics of these examples. If query and candidates have the same features, both
        towers get the same initial weights: an untrained selector then ranks by similarity.
        """
        fit_statistics(self.query_tower, query_embeds)
        fit_statistics(self.candidate_tower, candidate_embeds)
        if self.config.query_features == self.config.candidate_features:
            for own, other in zip(self.candidate_tower.layers, self.query_tower.layers, strict=True):
                own.load_state_dict(other.state_dict())

    def encode(
        self, query_embeds: Tensor, candidate_embeds: Tensor, candidate_mask: Tensor, candidate_rows: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        candidates = self.candidate_tower(candidate_embeds)  # [B, K, D] -> [B, K, H]
        for block in self.candidate_encoder:
            candidates = block(candidates, candidates, candidate_mask)
        states = self.query_tower(query_embeds).unsqueeze(1)  # [B, D] -> [B, 1, H]
        for block in self.cross_attention:
            states = block(states, candidates, candidate_mask)
        context = {"candidates": candidates, "keys": self.scorer.keys(candidates)}
        state = {"states": states}
        if self.config.diversity == "mmr":
            context["unit_candidates"] = F.normalize(candidates, dim=-1)
            state["redundancy"] = torch.zeros_like(candidates[:, None, :, 0])  # [B, 1, K]
        if self.config.step_embeddings:
            state["num_picks"] = torch.zeros_like(states[..., 0], dtype=torch.long)  # [B, 1]
        return context, state

    def score(self, context: Tensors, state: Tensors) -> Tensor:
        states = state["states"]
        if self.config.step_embeddings:
            states = states + self.step_embeddings(state["num_picks"].clamp(max=self.config.num_shots - 1))
        return self.scorer(states, context, state.get("redundancy"))

    def advance(self, context: Tensors, state: Tensors, picks: Tensor) -> Tensors:
        made = (picks >= 0).unsqueeze(-1)  # [B, G, 1]
        index = picks.clamp(min=0).unsqueeze(-1).expand(-1, -1, context["candidates"].shape[-1])  # [B, G, H]
        picked = context["candidates"].gather(1, index)  # [B, K, H] -> [B, G, H]
        after = {"states": torch.where(made, self.history(state["states"], picked), state["states"])}
        if self.config.diversity == "mmr":
            units = context["unit_candidates"]
            similarity = units.gather(1, index) @ units.transpose(1, 2)  # [B, G, K]
            after["redundancy"] = torch.where(made, state["redundancy"].maximum(similarity), state["redundancy"])
        if self.config.step_embeddings:
            after["num_picks"] = state["num_picks"] + made.squeeze(-1)
        return after
