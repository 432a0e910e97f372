# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a model has to do, counted from its shape: floating-point operations, and bytes of weights, keys and values."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .modeling_open_flamingo import OpenFlamingoModel


def linear_weights(module: nn.Module) -> int:
    """Weights that every token is multiplied with: those of the linear layers, quantised or not."""
    found = 0
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            found += layer.in_features * layer.out_features  # of 4-bit layers the stored shape is another
        elif isinstance(layer, Conv1D):
            found += layer.nx * layer.nf
    return found


def attended_pairs(before: int, tokens: int) -> int:
    """Pairs of a token and what it sees, for `tokens` tokens behind `before` others under causal attention."""
    return tokens * before + tokens * (tokens + 1) // 2


class Operations:
    """
    Costs of a decoder and its head. Counted are matrix products, two operations a multiplication with its addition;
    norms, activations, rotations and softmax are left out, as is usual. Where images are looked at through
    cross-attention, every token is taken to look at one.

    Args:
        model (`PreTrainedModel`):
            Model with a decoder and a head. Linear layers that only some tokens go through (experts) count for all.

    Attributes:
        weight_bytes (`int`):
            Bytes of the decoder's and the head's weights: what a batch reads at least.
        kv_bytes (`int`):
            Bytes of the keys and values of one token in all layers.
    """

    def __init__(self, model: PreTrainedModel):
        decoder, head = model.get_decoder(), model.get_output_embeddings()
        config = model.config.get_text_config()
        num_heads = config.num_attention_heads
        num_kv_heads = getattr(config, "num_key_value_heads", None) or num_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
        self.head_weights = linear_weights(head)
        inside = any(module is head for module in decoder.modules())  # of models that are their own decoder
        self.decoder_weights = linear_weights(decoder) - inside * self.head_weights
        self.attention_width = config.num_hidden_layers * num_heads * head_dim
        crosses = model.cross_attentions if isinstance(model, OpenFlamingoModel) else []
        self.latents = len(model.perceiver.latents) if crosses else 0
        self.cross_width = sum(layer.to_q.out_features for layer in crosses)
        self.image_weights = sum(linear_weights(layer.to_kv) for layer in crosses)
        self.decoder_weights -= self.image_weights  # images go through them, tokens don't
        self.kv_bytes = 2 * config.num_hidden_layers * num_kv_heads * head_dim * model.dtype.itemsize
        # By identity: a head may share its weights with the embeddings, which a batch reads a few rows of only.
        table = model.get_input_embeddings().weight
        read = {id(p): p.nbytes for p in decoder.parameters() if p is not table}
        self.weight_bytes = sum((read | {id(p): p.nbytes for p in head.parameters()}).values())

    def of_decoder(self, tokens: int, pairs: int) -> int:
        """
        Args:
            tokens (`int`):
                Tokens that are run.
            pairs (`int`):
                Pairs of a token and what it attends to, see [`attended_pairs`].
        """
        attention = self.attention_width * pairs + self.cross_width * self.latents * tokens
        return 2 * self.decoder_weights * tokens + 4 * attention

    def of_cross_attention(self, images: int) -> int:
        """Keys and values of `images` images for cross-attention; 0 of a model whose images stand among its tokens."""
        return 2 * self.image_weights * self.latents * images

    def of_head(self, positions: int) -> int:
        """Logits at `positions` tokens."""
        return 2 * self.head_weights * positions


def counted(run: Callable[[], Any]) -> int:
    """Operations of whatever `run` does, counted while it does it."""
    # As plain matrix products: the counter does not know every fused kernel.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def image_operations(model: PreTrainedModel, images: dict[str, torch.Tensor]) -> int:
    """
    Operations of the vision tower and of what leads from it to the decoder; counted, since towers differ too much to
    be told from their configs.

    Args:
        model (`PreTrainedModel`):
            The model.
        images (`dict[str, torch.Tensor]`):
            What its processor says of some images.
    """
    inputs = {name: tensor.to(model.device) for name, tensor in images.items()}
    inputs = {name: t.to(model.dtype) if t.is_floating_point() else t for name, t in inputs.items()}
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    # The counter hooks into the gradient of whatever claims to have one, as a view of a weight does without having it.
    model.requires_grad_(False)
    try:
        if isinstance(model, OpenFlamingoModel):
            return counted(lambda: model.encode_images(**inputs))
        return counted(lambda: model.get_image_features(**inputs, return_dict=True))
    finally:
        for weight in trainable:
            weight.requires_grad_(True)
