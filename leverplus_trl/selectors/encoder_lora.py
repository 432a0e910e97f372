# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""
The encoder of a selector that trains it, too: a CLIP model with low-rank adapters (LoRA, Hu et al., 2021), by peft.

Its own weights stay as they are and are not saved with the selector: they are read from where the encoder lies, or
from a copy of it in the selector's folder.
"""

import copy
import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoConfig, CLIPConfig, CLIPModel
from transformers.utils import cached_file

from ..output_files import UNFINISHED, delete, naming
from ..provenance import WEIGHT_SUFFIXES, json_hash, model_revision
from ..retrieval.embeddings import Encoder
from ..weights import load_safetensors
from .configuration_pointer_selector import PointerSelectorConfig
from .selector_fields import EncoderLoraConfig


logger = logging.getLogger(__name__)

#: What `forward` of a selector with adapters takes instead of embeddings.
ENCODER_INPUTS = ("query_feature_rows", "candidate_feature_rows", "pixel_values", "input_ids", "attention_mask")
#: Modules of a CLIP model behind each feature. An answer is embedded as a question is.
TOWERS = {
    "image": ("vision_model", "visual_projection"),
    "text": ("text_model", "text_projection"),
    "answer": ("text_model", "text_projection"),
}
COPY = "encoder"  # subfolder of a selector's folder


class AdaptedEncoder(nn.Module):
    """
    A CLIP model with adapters: distinct images and texts in, features of queries and candidates out.

    Args:
        config ([`PointerSelectorConfig`]):
            Config of the selector, with `lora`. Its `encoder_config` is filled in if it is not there.

    Raises:
        `ValueError`: the encoder is no CLIP model, or has no such layers.
    """

    def __init__(self, config: PointerSelectorConfig):
        super().__init__()
        self.query_features, self.candidate_features = config.query_features, config.candidate_features
        self.clip = CLIPModel(_clip_config(config))
        _inject(self.clip, EncoderLoraConfig.from_dict(config.lora), config.features)
        #: What is trained and saved; whoever freezes it later does not change that.
        self.trained_names = frozenset(name for name, value in self.clip.named_parameters() if value.requires_grad)
        #: Where the base weights came from; without them nothing is encoded.
        self.source: tuple[str, str | None] | None = None
        if self.clip.logit_scale.device.type != "meta":
            for module in self.clip.modules():  # adapters must begin as zero, and not as transformers initialises
                module._is_hf_initialized = True

    @property
    def frozen_names(self) -> list[str]:
        """Names of the parameters that are neither trained nor saved."""
        return [name for name, _ in self.clip.named_parameters() if name not in self.trained_names]

    def forward(
        self,
        query_feature_rows: torch.Tensor,
        candidate_feature_rows: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            query_feature_rows (`torch.LongTensor` of shape `[B, F]`):
                For each of a query's features, in the order of the config, its row among the images or the texts.
            candidate_feature_rows (`torch.LongTensor` of shape `[B, K, F]`):
                The same of the candidates.
            pixel_values (`torch.FloatTensor` of shape `[U, 3, H, W]`, *optional*):
                Distinct images.
            input_ids (`torch.LongTensor` of shape `[V, T]`, *optional*):
                Distinct texts: questions, and answers where these are features.
            attention_mask (`torch.LongTensor` of shape `[V, T]`, *optional*):
                0 for padding of the texts.

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
        """
        Reads the encoder's own weights, as float32 from safetensors.

        Args:
            name_or_path (`str`):
                Hub id or folder.
            revision (`str`, *optional*):
                Its revision.
            keep_trained (`bool`, *optional*, defaults to `False`):
                Whether trained biases stay as they are.

        Raises:
            `ValueError`: another architecture than the selector was built for.
        """
        where = {"revision": revision, "dtype": torch.float32}
        base = load_safetensors(CLIPModel.from_pretrained, name_or_path, "encoder", **where).state_dict()
        own = {name: value for name, value in self.clip.state_dict().items() if ".lora_" not in name}
        plain = {name: name.replace(".base_layer.", ".") for name in own}
        shapes = {plain[name]: value.shape for name, value in own.items()}
        different = sorted(base.keys() ^ shapes.keys()) or [n for n in base if base[n].shape != shapes[n]]
        if different:
            raise ValueError(
                f"The encoder {name_or_path!r} is not built as the one that the selector's adapters belong to "
                f"({different[0]} and {len(different) - 1} more differ); name the encoder it was trained with."
            )
        for name, value in own.items():
            if not (keep_trained and name in self.trained_names):
                value.copy_(base[plain[name]])
        for name, parameter in self.clip.named_parameters():  # loading may have put other tensors in their place
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
        """A plain CLIP model that has taken in the adapters."""
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
    """
    The encoder that a selector has adapted, as one that embeds examples.

    Args:
        adapted ([`AdaptedEncoder`]):
            Of the selector.
        device (`str`):
            Where it is.
    """

    def __init__(self, adapted: AdaptedEncoder, device: str) -> None:
        super().__init__(*adapted.source, device)
        self._adapted = adapted

    @cached_property
    def model(self) -> CLIPModel:
        return self._adapted.clip.eval()

    @property
    def weights_revision(self) -> str:
        return json_hash([super().weights_revision, self._adapted.trained_hash()])


def check_encoder(config: PointerSelectorConfig, name_or_path: str, revision: str | None) -> None:
    """Raises `ValueError` if this is not the encoder that the adapters were trained on."""
    elsewhere = "If it lies elsewhere now, say where: from_pretrained(..., encoder=PATH)."
    try:
        found = model_revision(name_or_path, revision)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The selector's adapters need the encoder {name_or_path!r} (revision {revision!r}), and it is not to be "
            f"found ({error}). {elsewhere}"
        ) from error
    if config.encoder_commit not in (None, found):
        raise ValueError(
            f"The encoder {name_or_path!r} (revision {revision!r}) is {found}, but the selector's adapters were "
            f"trained on {config.encoder_commit}, and fit no other weights. {elsewhere}"
        )


def copied_encoder(name_or_path: str, revision: str | None = None, **hub) -> str | None:
    """
    The folder with the copy of its encoder that comes with a selector; `None` if there is none.

    Args:
        name_or_path (`str`):
            Folder or hub id of the selector.
        revision (`str`, *optional*):
            Its hub revision.
        **hub:
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
    """
    Puts the files of an encoder into the folder of a selector, which uses them from there.

    Args:
        name_or_path (`str`):
            Hub id or folder of the encoder.
        revision (`str`, *optional*):
            Its revision.
        folder (`Path`):
            Folder of the selector.

    Returns:
        `str`: the hash of what is there now.
    """
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
        found = AutoConfig.from_pretrained(config.encoder, revision=config.encoder_revision, trust_remote_code=False)
        if not isinstance(found, CLIPConfig):
            raise ValueError(
                f"lora adapts CLIP models, but the encoder {config.encoder!r} is of the type {found.model_type!r}; "
                "name a CLIP model, or train a selector without lora (v2)."
            )
        config.encoder_config = found.to_diff_dict()
    return CLIPConfig.from_dict(config.encoder_config)


def _inject(clip: CLIPModel, lora: EncoderLoraConfig, features: Sequence[str]) -> None:
    """Puts adapters into the towers that features come from, and freezes everything else."""
    from peft import LoraConfig, inject_adapter_in_model

    used = {module for feature in features for module in TOWERS[feature]}
    layers = [name for name, module in clip.named_modules() if isinstance(module, nn.Linear)]
    layers = [name for name in layers if name.split(".")[0] in used]
    targets = {target: [n for n in layers if f".{n}".endswith(f".{target}")] for target in lora.target_modules}
    missing = [target for target, found in targets.items() if not found]
    if missing:
        known = sorted({name.split(".")[-1] for name in layers})
        raise ValueError(f"The encoder has no linear layer {missing[0]!r} to adapt; there are {', '.join(known)}.")
    names = sorted({name for found in targets.values() for name in found})
    options = {"r": lora.r, "lora_alpha": lora.lora_alpha, "lora_dropout": lora.lora_dropout, "bias": lora.bias}
    inject_adapter_in_model(LoraConfig(target_modules=names, **options), clip)
    for name, parameter in clip.named_parameters():
        if name.split(".")[0] not in used:  # what no loss reaches would make distributed training wait for it
            parameter.requires_grad_(False)


def _gather(tables: dict[str, torch.Tensor], features: Sequence[str], rows: torch.Tensor) -> torch.Tensor:
    """Rows `[..., F]` of the images and texts `[U, D]` -> features side by side `[..., D]`."""
    missing = [name for name in features if name not in tables]
    if missing:
        needed = "pixel_values" if missing[0] == "image" else "input_ids"
        raise ValueError(f"The selector reads {missing[0]} features, but got no {needed}.")
    return torch.cat([tables[name][rows[..., column]] for column, name in enumerate(features)], dim=-1)
