# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""
The encoder of a selector: where it is, its copy in the selector's folder, and a CLIP model with low-rank adapters
(LoRA, Hu et al., 2021) by peft for a selector that trains it. Its frozen weights are not saved with the selector.
"""

import copy
import hashlib
import os
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import AutoConfig, CLIPConfig, CLIPModel
from transformers.utils import cached_file

from ..output_files import UNFINISHED, delete, naming
from ..provenance import WEIGHT_SUFFIXES, json_hash, model_revision
from ..retrieval.embeddings import Encoder
from ..weights import load_safetensors
from .configuration_pointer_selector import PointerSelectorConfig
from .selector_fields import EncoderLoraConfig


#: Inputs of `forward` of a selector with adapters, instead of embeddings.
ENCODER_INPUTS = ("query_feature_rows", "candidate_feature_rows", "pixel_values", "input_ids", "attention_mask")
#: Modules of a CLIP model by feature. An answer is embedded as a question is.
TOWERS = {
    "image": ("vision_model", "visual_projection"),
    "text": ("text_model", "text_projection"),
    "answer": ("text_model", "text_projection"),
}
COPY = "encoder"  # subfolder of a selector's folder


class AdaptedEncoder(nn.Module):
    """
    A CLIP model with adapters: distinct images and texts in, features of queries and candidates out.

    It is built from a selector's config with `lora`; `encoder_config` is filled in if it is missing. `trained_names`
    are the parameters that are trained and saved, `source` is where the base weights were read from.

    Raises:
        `ValueError`: the encoder is no CLIP model, or has no such layers.
    """

    def __init__(self, config: PointerSelectorConfig):
        super().__init__()
        self.query_features, self.candidate_features = config.query_features, config.candidate_features
        self.clip = CLIPModel(_clip_config(config))
        _inject(self.clip, EncoderLoraConfig.from_dict(config.lora), config.features)
        self.trained_names = frozenset(name for name, value in self.clip.named_parameters() if value.requires_grad)
        self.source: tuple[str, str | None] | None = None
        if self.clip.logit_scale.device.type != "meta":
            for module in self.clip.modules():  # adapters must begin as zero, and not as transformers initialises
                module._is_hf_initialized = True

    def forward(
        self,
        query_feature_rows: Tensor,
        candidate_feature_rows: Tensor,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            query_feature_rows (`torch.LongTensor` of shape `[B, F]`):
                For each feature of a query, in the order of the config, its row among the images or the texts.
            candidate_feature_rows (`torch.LongTensor` of shape `[B, K, F]`):
                The same of the candidates.
            pixel_values (`torch.FloatTensor` of shape `[U, 3, H, W]`, *optional*):
                Distinct images.
            input_ids, attention_mask (`torch.LongTensor` of shape `[V, T]`, *optional*):
                Distinct texts: questions, and answers if these are features.

        Returns:
            `query_embeds` `[B, D]` and `candidate_embeds` `[B, K, D]`.

        Raises:
            `ValueError`: images or texts are missing that features come from.
            `RuntimeError`: the encoder's weights were not loaded.
        """
        if self.source is None:
            raise RuntimeError("The weights of the encoder are random: call load_encoder() of the selector first.")
        tables = {}
        if pixel_values is not None:
            features = self.clip.get_image_features(pixel_values=pixel_values).pooler_output
            tables["image"] = F.normalize(features, dim=-1)  # [U, D_image]
        if input_ids is not None:
            texts = {"input_ids": input_ids, "attention_mask": attention_mask}
            features = self.clip.get_text_features(**texts).pooler_output
            tables["text"] = tables["answer"] = F.normalize(features, dim=-1)  # [V, D_text]
        query_embeds = _gather(tables, self.query_features, query_feature_rows)
        return query_embeds, _gather(tables, self.candidate_features, candidate_feature_rows)

    @torch.no_grad()
    def load_base(self, name_or_path: str, revision: str | None, keep_trained: bool = False) -> None:
        """Reads the encoder's own weights as float32; `keep_trained` keeps trained biases. Raises `ValueError` for
        another architecture than the selector was built for."""
        where = {"revision": revision, "dtype": torch.float32}
        base = load_safetensors(CLIPModel.from_pretrained, name_or_path, "encoder", **where).state_dict()
        own = {name: value for name, value in self.clip.state_dict().items() if ".lora_" not in name}
        plain = {name: name.replace(".base_layer.", ".") for name in own}
        shapes = {plain[name]: value.shape for name, value in own.items()}
        different = sorted(base.keys() ^ shapes.keys()) or [name for name in base if base[name].shape != shapes[name]]
        if different:
            raise ValueError(
                f"The encoder {name_or_path!r} has another architecture than that of the selector's adapters "
                f"({different[0]} and {len(different) - 1} more weights differ); name the encoder of its training."
            )
        for name, value in own.items():
            if not (keep_trained and name in self.trained_names):
                value.copy_(base[plain[name]])
        for name, parameter in self.clip.named_parameters():  # loading may have replaced the tensors
            parameter.requires_grad_(name in self.trained_names)
        self.source = (name_or_path, revision)

    def trained_hash(self) -> str:
        """Hash of the trained weights."""
        hasher = hashlib.sha256()
        for name, value in sorted(self.clip.named_parameters()):
            if name in self.trained_names:
                hasher.update(name.encode())
                hasher.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return hasher.hexdigest()[:16]

    def merged(self) -> CLIPModel:
        """A plain CLIP model with the adapters merged into its weights."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        clip = copy.deepcopy(self.clip)
        for name, module in list(clip.named_modules()):
            if isinstance(module, BaseTunerLayer):
                module.merge(safe_merge=True)
                parent, _, child = name.rpartition(".")
                setattr(clip.get_submodule(parent), child, module.get_base_layer())
        del clip.peft_config
        return clip.requires_grad_(True).eval()


class SelectorEncoder(Encoder):
    """Embeds examples with the encoder that a selector has adapted."""

    def __init__(self, adapted: AdaptedEncoder, device: str) -> None:
        super().__init__(*adapted.source, device)
        self._adapted = adapted

    @cached_property
    def model(self) -> CLIPModel:
        return self._adapted.clip.eval()

    @property
    def weights_revision(self) -> str:
        return json_hash([super().weights_revision, self._adapted.trained_hash()])


def copied_encoder(name_or_path: str, revision: str | None = None, **hub) -> str | None:
    """
    The folder with the encoder's copy of a selector in a folder or on the hub, `None` if there is none. `hub` may hold
    `token`, `cache_dir` and `local_files_only`.
    """
    if Path(name_or_path).is_dir():
        folder = Path(name_or_path) / COPY
        return str(folder) if (folder / "config.json").exists() else None
    optional = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    if cached_file(name_or_path, f"{COPY}/config.json", revision=revision, **hub, **optional) is None:
        return None
    return str(Path(snapshot_download(name_or_path, revision=revision, allow_patterns=f"{COPY}/*", **hub)) / COPY)


def copy_encoder(name_or_path: str, revision: str | None, folder: Path) -> str:
    """Copies the files of an encoder into the folder of a selector, and returns the hash of the copy."""
    source = Path(name_or_path)
    if not source.is_dir():
        patterns = {"allow_patterns": [f"*{suffix}" for suffix in WEIGHT_SUFFIXES], "ignore_patterns": "*/*"}
        source = Path(snapshot_download(name_or_path, revision=revision, **patterns))
    unfinished, target = folder / f"{UNFINISHED}{COPY}", folder / COPY
    with naming(target):
        delete(unfinished)  # of a process that was killed
        unfinished.mkdir(parents=True)
        for file in source.iterdir():
            if file.suffix in WEIGHT_SUFFIXES:
                shutil.copyfile(file, unfinished / file.name)
        delete(target)
        os.rename(unfinished, target)
    return model_revision(str(target))


def _clip_config(config: PointerSelectorConfig) -> CLIPConfig:
    if config.encoder_config is None:
        if config.encoder is None:
            raise ValueError("lora adapts the encoder, but the selector's config names none: set `encoder`.")
        where = {"revision": config.encoder_revision, "trust_remote_code": False}
        encoder_config = AutoConfig.from_pretrained(config.encoder, **where)
        if not isinstance(encoder_config, CLIPConfig):
            raise ValueError(
                f"lora adapts CLIP models, but the encoder {config.encoder!r} is of the type "
                f"{encoder_config.model_type!r}; name a CLIP model, or train a selector without lora (v2)."
            )
        config.encoder_config = encoder_config.to_diff_dict()
    return CLIPConfig.from_dict(config.encoder_config)


def _inject(clip: CLIPModel, lora: EncoderLoraConfig, features: Sequence[str]) -> None:
    """Puts adapters into the towers that features come from, and freezes everything else."""
    from peft import LoraConfig, inject_adapter_in_model

    used = {module for feature in features for module in TOWERS[feature]}
    layers = [name for name, module in clip.named_modules() if isinstance(module, nn.Linear)]
    layers = [name for name in layers if name.split(".")[0] in used]
    names = set()
    for target in lora.target_modules:
        matches = {name for name in layers if f".{name}".endswith(f".{target}")}
        if not matches:
            known = sorted({name.split(".")[-1] for name in layers})
            raise ValueError(f"The encoder has no linear layer {target!r} to adapt; there are {', '.join(known)}.")
        names |= matches
    options = {"r": lora.r, "lora_alpha": lora.lora_alpha, "lora_dropout": lora.lora_dropout, "bias": lora.bias}
    inject_adapter_in_model(LoraConfig(target_modules=sorted(names), **options), clip)
    for name, parameter in clip.named_parameters():
        if name.split(".")[0] not in used:  # distributed training would wait for gradients of unused parameters
            parameter.requires_grad_(False)


def _gather(tables: dict[str, Tensor], features: Sequence[str], rows: Tensor) -> Tensor:
    """Rows `[..., F]` of the images and texts `[U, D]` -> features side by side `[..., D]`."""
    missing = [name for name in features if name not in tables]
    if missing:
        needed = "pixel_values" if missing[0] == "image" else "input_ids"
        raise ValueError(f"The selector reads {missing[0]} features, but got no {needed}.")
    return torch.cat([tables[name][rows[..., column]] for column, name in enumerate(features)], dim=-1)
