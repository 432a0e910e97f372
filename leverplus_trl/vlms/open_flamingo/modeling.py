# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""OpenFlamingo as a model of transformers: `from_pretrained`, `save_pretrained`, safetensors.

The `open_flamingo` package, imported when a model is made, builds the model and computes its cross-attention. This
module adds a config, and separates image features from the language model, so that an image is encoded once for all
prompts. The names of weights are those of the package's checkpoints.
"""

import copy
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CLIPVisionConfig,
    CLIPVisionModel,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from . import mpt  # noqa: F401  (registers the language model of OpenFlamingo-3B)


VERSION = "2.0.1"
#: The package's metadata pins torch 2.0.1; with another torch pip installs a far older version, but for `--no-deps`.
INSTALL = f"pip install --no-deps open-flamingo=={VERSION} einops einops-exts"

#: Where each kind of language model keeps its layers.
DECODER_LAYERS = {
    "gpt_neox": "gpt_neox.layers",
    "llama": "model.layers",
    "mosaic_mpt": "transformer.blocks",
    "mpt": "transformer.blocks",
    "opt": "model.decoder.layers",
}


def import_open_flamingo(module: str) -> Any:
    """
    A module of `open_flamingo.src`; raises `ImportError`, which says how to install it, for a missing package.

    It is imported without the package's `__init__`, which imports OpenCLIP and torchvision. Neither is needed, and a
    torchvision that was not built for the installed torch breaks transformers.
    """
    name = "open_flamingo_src"
    try:
        if name not in sys.modules:
            package = importlib.util.find_spec("open_flamingo")
            if package is None:
                raise ModuleNotFoundError("No module named 'open_flamingo'")
            if version("open-flamingo") != VERSION:
                raise ImportError(f"open-flamingo {version('open-flamingo')} is installed")
            folder = f"{package.submodule_search_locations[0]}/src"
            spec = importlib.util.spec_from_file_location(
                name, f"{folder}/__init__.py", submodule_search_locations=[folder]
            )
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        return importlib.import_module(f"{name}.{module}")
    except ImportError as error:
        raise ImportError(f"OpenFlamingo can't be imported ({error}). Install what it needs: `{INSTALL}`.") from error


class OpenFlamingoConfig(PreTrainedConfig):
    """Configuration of an [`OpenFlamingoModel`]; the language model's vocabulary has the two special tokens."""

    model_type = "open_flamingo"
    sub_configs: ClassVar = {"text_config": AutoConfig, "vision_config": CLIPVisionConfig}

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    cross_attn_every_n_layers: int = 1  # cross-attention is before every n-th layer of the language model
    media_token_id: int | None = None  # of `<image>`
    eoc_token_id: int | None = None  # of `<|endofchunk|>`

    def __post_init__(self, **kwargs):
        if isinstance(self.text_config, dict):
            self.text_config = AutoConfig.for_model(**self.text_config)
        if isinstance(self.vision_config, dict):
            self.vision_config = CLIPVisionConfig(**self.vision_config)
        super().__post_init__(**kwargs)


class PatchEncoder(CLIPVisionModel):
    """CLIP's vision encoder as OpenFlamingo was trained on it: the patches without the class token, before the last
    LayerNorm, which OpenCLIP has applied to patches too since version 2.23."""

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = super().forward(pixel_values).last_hidden_state  # [N, 1 + patches, V]
        return hidden[:, 0], hidden[:, 1:]


class OpenFlamingoModel(PreTrainedModel):
    """A language model whose layers attend to images through gated cross-attention."""

    config_class = OpenFlamingoConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: OpenFlamingoConfig):
        super().__init__(config)
        if config.media_token_id is None or config.eoc_token_id is None:
            raise ValueError("The config of an OpenFlamingo model needs media_token_id and eoc_token_id.")
        if config.text_config.model_type not in DECODER_LAYERS:
            raise ValueError(
                f"The language model of this OpenFlamingo is a {config.text_config.model_type!r}; expected one of "
                f"{', '.join(DECODER_LAYERS)}."
            )

        class FlamingoLM(import_open_flamingo("flamingo_lm").FlamingoLMMixin):
            def forward(self, input_ids, attention_mask=None, **kwargs):  # `generate` may leave the mask out
                return super().forward(input_ids, attention_mask, **kwargs)

        attention = {"attn_implementation": config._attn_implementation}
        language_model = AutoModelForCausalLM._model_mapping[type(config.text_config)]
        of_language_model = attention if language_model._supports_sdpa else {"attn_implementation": "eager"}
        language_model = AutoModelForCausalLM.from_config(config.text_config, **of_language_model)
        import_open_flamingo("utils").extend_instance(language_model, FlamingoLM)
        language_model.set_decoder_layers_attr_name(DECODER_LAYERS[config.text_config.model_type])
        encoder = PatchEncoder._from_config(config.vision_config, **attention)
        flamingo = import_open_flamingo("flamingo").Flamingo(
            SimpleNamespace(visual=encoder),
            language_model,
            config.eoc_token_id,
            config.media_token_id,
            vis_dim=config.vision_config.hidden_size,
            cross_attn_every_n_layers=config.cross_attn_every_n_layers,
        )
        # Second names of the decoder's layers: each weight is saved once.
        del language_model.old_decoder_blocks, language_model.gated_cross_attn_layers
        self.vision_encoder, self.perceiver, self.lang_encoder = encoder, flamingo.perceiver, language_model
        object.__setattr__(self, "flamingo", flamingo)  # the same modules, not a second set of parameters
        self.generation_config = GenerationConfig(eos_token_id=config.eoc_token_id)
        language_model.generation_config = GenerationConfig()  # it would set what `generate` leaves unset
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args, output_loading_info: bool = False, **kwargs):
        """As in transformers, but raises `ValueError` for weights that are missing, unknown or of another shape."""
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        problems = {kind: sorted(map(str, keys))[:3] for kind, keys in info.items() if keys}
        if problems:
            raise ValueError(f"The weights in {args[0]!r} are not those of its config: {problems}.")
        return (model, info) if output_loading_info else model

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Each part has initialised itself."""

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.lang_encoder.get_input_embeddings()

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.lang_encoder.get_output_embeddings()

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Features of pictures [N, 3, H, W], which the cross-attention reads: [N, latents, V]."""
        patches = self.vision_encoder(pixel_values)[1]  # [N, patches, V]
        return self.perceiver(patches[:, None, None])[:, 0]  # [N, media, frames, patches, V] -> [N, latents, V]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        use_cache: bool = False,
    ) -> CausalLMOutputWithPast:
        """Logits of whole prompts; `image_features`, `(B, T, latents, V)`, are of each row's images, one for each
        `<image>`, in their order, then padding."""
        with self._shown(image_features, len(input_ids)):
            return self.lang_encoder(input_ids, attention_mask, use_cache=use_cache, logits_to_keep=logits_to_keep)

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **settings: Any,
    ) -> torch.Tensor:
        """Prompts, padded on the left, and the new tokens; `generate` of the language model. It never generates
        `<image>`, after which the package would take every row for a text without images."""
        config = copy.deepcopy(generation_config or self.generation_config)
        config.suppress_tokens = [*(config.suppress_tokens or []), self.config.media_token_id]
        settings |= {"attention_mask": attention_mask, "generation_config": config}
        with self._shown(image_features, len(input_ids), max(config.num_beams or 1, config.num_return_sequences or 1)):
            self.lang_encoder._use_cached_vision_x = True
            return self.lang_encoder.generate(input_ids=input_ids, **settings)

    @contextmanager
    def _shown(self, image_features: torch.Tensor | None, rows: int, copies: int = 1) -> Iterator[None]:
        """Hands features to the layers, which know the places of the images by `<image>`."""
        if image_features is None:
            latents = self.perceiver.latents
            image_features = latents.new_zeros(rows, 1, *latents.shape)  # no token follows an image
        for layer in self.lang_encoder._get_decoder_layers():
            layer.condition_vis_x(image_features.repeat_interleave(copies, dim=0))
        try:
            yield
        finally:
            self.lang_encoder.clear_conditioned_layers()
            self.lang_encoder._use_cached_vision_x = False


AutoConfig.register("open_flamingo", OpenFlamingoConfig)
