# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The encoder of examples: a CLIP model or a sentence encoder.

Of sentence-transformers, transformers with mean pooling are supported, with or without normalisation, which does not
change cosine similarity. Other modules, poolings and prompts are refused: embeddings without them would be wrong, and
raise no error.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, BatchEncoding, CLIPModel
from transformers.utils import cached_file

from ..provenance import model_revision
from ..tasks.images import decode_image
from ..weights import align, first_line, load_safetensors


#: The column of each modality.
COLUMNS = {"image": "image", "text": "question", "answer": "answer"}
MODALITIES = tuple(COLUMNS)
SENTENCE_ENCODERS = ("albert", "bert", "deberta-v2", "distilbert", "modernbert", "mpnet", "roberta", "xlm-roberta")
# Position ids of these models start after the padding id, which reduces the maximum number of tokens.
OFFSET_POSITIONS = ("mpnet", "roberta", "xlm-roberta")

#: Supported modules, in order; the last may be missing.
SENTENCE_MODULES, CLIP_MODULES = ("Transformer", "Pooling", "Normalize"), ("CLIPModel", "Normalize")
#: Files with the settings of the transformer: the first that exists is used.
SETTINGS_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
#: Settings that do not change the embeddings.
NEUTRAL_SETTINGS = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
}
POOLING_FLAG = "pooling_mode_"


@dataclass(frozen=True)
class TextSettings:
    """Preprocessing of an encoder's texts."""

    max_seq_length: int | None = None  #: Maximum number of tokens with special tokens; defaults to the tokenizer's.
    do_lower_case: bool = False  #: Whether texts are converted to lower case before tokenisation.


class SentenceEncoderFiles:
    """The files of sentence-transformers in the folder or hub repository of a model. What is not supported raises
    `ValueError`."""

    def __init__(self, name_or_path: str, revision: str | None = None) -> None:
        self.name_or_path, self.revision = name_or_path, revision

    def text_settings(self, is_clip: bool) -> TextSettings:
        """The preprocessing of texts, after a check of all that may change embeddings."""
        modules, known = self._modules(), CLIP_MODULES if is_clip else SENTENCE_MODULES
        if is_clip and modules and modules[0][0] == "Transformer":  # the name of every model in newer releases
            modules[0] = ("CLIPModel", modules[0][1])
        names = tuple(name for name, _ in modules)
        if names and names not in (known, known[:-1]):
            foreign = [name for name in names if name not in known]
            self._refuse(f"the module {foreign[0]}" if foreign else f"the modules {', '.join(names)}", "modules.json")
        if modules and modules[0][1]:
            self._refuse(f"its weights in the subfolder {modules[0][1]!r}", "modules.json")
        if is_clip:
            return TextSettings()
        self._check_pooling(dict(modules).get("Pooling", "1_Pooling"))
        self._check_similarity(normalized="Normalize" in names)
        for file in SETTINGS_FILES:
            settings = self._read(file, dict) or {}
            if settings:
                break
        limit = settings.get("max_seq_length")
        for name, value in settings.items():
            if value and name not in ("max_seq_length", "do_lower_case") and value != NEUTRAL_SETTINGS.get(name):
                self._refuse(f"the setting {name}: {value!r}", file)
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            self._refuse(f"max_seq_length {limit!r}", file)
        return TextSettings(limit, bool(settings.get("do_lower_case")))

    def _modules(self) -> list[tuple[str, str]]:
        """Class and folder of each module; empty without a list of modules."""
        modules = self._read("modules.json", list) or []
        if not all(isinstance(module, dict) and {"type", "path"} <= module.keys() for module in modules):
            self._refuse(f"the modules {modules}", "modules.json")
        return [(str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in modules]

    def _check_pooling(self, folder: str) -> None:
        """Only the mean is supported. Older releases write a flag for each pooling, newer releases a name."""
        file = f"{folder}/config.json"
        settings = self._read(file, dict) or {}
        flags = {name.removeprefix(POOLING_FLAG): on for name, on in settings.items() if name.startswith(POOLING_FLAG)}
        modes = settings.get("pooling_mode") or ([name for name, on in flags.items() if on] if flags else "mean")
        modes = [modes] if isinstance(modes, str) else list(modes)
        if modes not in (["mean"], ["mean_tokens"]):
            self._refuse(f"the pooling {' + '.join(map(str, modes)) or 'without mode'}", file)

    def _check_similarity(self, normalized: bool) -> None:
        file = "config_sentence_transformers.json"
        settings = self._read(file, dict) or {}
        prompts = {name: text for name, text in (settings.get("prompts") or {}).items() if text}
        if prompts:
            self._refuse(f"prompts for its texts ({prompts})", file)
        similarity = settings.get("similarity_fn_name") or "cosine"
        if similarity != "cosine" and not normalized:
            self._refuse(f"the similarity {similarity!r} of vectors of any length", file)

    def _read(self, file: str, kind: type) -> Any:
        """Content of a JSON file, `None` if the file does not exist."""
        optional = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        path = cached_file(self.name_or_path, file, revision=self.revision, **optional)
        if path is None:
            return None
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} of the encoder {self.name_or_path!r} is not JSON ({error}).") from error
        if not isinstance(content, kind):
            raise ValueError(f"{file} of the encoder {self.name_or_path!r} holds no {kind.__name__}: {content!r}.")
        return content

    def _refuse(self, what: str, file: str) -> None:
        raise ValueError(
            f"The encoder {self.name_or_path!r} has {what} ({file}), which is not supported: expected a transformer "
            "with mean pooling and no prompts. Use another encoder."
        )


class Encoder:
    """
    Encodes images and texts as unit vectors with a CLIP model (projected features of both towers), or texts with a
    sentence encoder (mean of the last hidden states without padding, the default of sentence-transformers). Long texts
    are truncated. Weights are loaded as float32 from safetensors, without remote code, when they are first needed.

    It is read from a hub id (at `revision`) or a folder, and runs on `device`, by default `"cuda"` if it is available.

    Raises:
        `ValueError`: the model is neither a CLIP model nor a sentence encoder that [`SentenceEncoderFiles`] supports.
    """

    def __init__(self, name_or_path: str, revision: str | None = None, device: str | None = None) -> None:
        self.name_or_path = name_or_path
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._source = {"revision": revision, "trust_remote_code": False}
        try:
            self.config = AutoConfig.from_pretrained(name_or_path, **self._source)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"The encoder {name_or_path!r} can't be read ({first_line(error)}). Expected a "
                "folder or hub id of a CLIP model or of a sentence encoder, with its config.json."
            ) from error
        self.model_type = self.config.model_type
        if self.model_type != "clip" and self.model_type not in SENTENCE_ENCODERS:
            raise ValueError(
                f"The encoder {name_or_path!r} has the model type {self.model_type!r}; expected 'clip' for images and "
                f"texts, or a sentence encoder for texts only ({', '.join(SENTENCE_ENCODERS)})."
            )
        self.text_settings = SentenceEncoderFiles(name_or_path, revision).text_settings(self.model_type == "clip")

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that can be encoded, of `"image"`, `"text"` and `"answer"`."""
        return MODALITIES if self.model_type == "clip" else ("text", "answer")

    def check_modality(self, modality: str) -> None:
        """Raises `ValueError` if the encoder can't encode this modality."""
        if modality not in self.modalities:
            raise ValueError(
                f"The encoder {self.name_or_path!r} ({self.model_type}) has no {modality} embeddings, only "
                f"{', '.join(self.modalities)}; use a CLIP model, or compare only texts."
            )

    @cached_property
    def model(self) -> torch.nn.Module:
        model_class = CLIPModel if self.model_type == "clip" else AutoModel
        options = {"dtype": torch.float32, **self._source}
        model = load_safetensors(model_class.from_pretrained, self.name_or_path, "encoder", **options)
        return align(model.eval()).to(self.device)

    @cached_property
    def tokenizer(self):
        return AutoTokenizer.from_pretrained(self.name_or_path, **self._source)

    @cached_property
    def image_processor(self):
        # AutoProcessor returns only a tokenizer for an unknown folder. With Pillow, the pixels are the same with and
        # without torchvision.
        return AutoImageProcessor.from_pretrained(self.name_or_path, backend="pil", **self._source)

    @property
    def max_text_length(self) -> int:
        """Maximum number of tokens of a text."""
        config = self.config.text_config if self.model_type == "clip" else self.config
        offset = config.pad_token_id + 1 if self.model_type in OFFSET_POSITIONS else 0
        limit = self.text_settings.max_seq_length or self.tokenizer.model_max_length
        return min(config.max_position_embeddings - offset, limit)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Encodes B images of any mode and size as `[B, D_image]` float32 rows of unit length."""
        pixel_values = self.preprocess(images).to(self.device)  # [B, 3, H, W]
        return _as_unit_rows(self.model.get_image_features(pixel_values=pixel_values).pooler_output)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes B texts as `[B, D_text]` float32 rows of unit length."""
        inputs = self.tokenize(texts).to(self.device)
        if self.model_type == "clip":
            mask = inputs["attention_mask"]
            features = self.model.get_text_features(input_ids=inputs["input_ids"], attention_mask=mask).pooler_output
            return _as_unit_rows(features)
        hidden = self.model(**inputs).last_hidden_state  # [B, T, D]
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)  # [B, T, 1]
        return _as_unit_rows((hidden * mask).sum(dim=1) / mask.sum(dim=1))  # [B, D]

    def preprocess(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """The input of the image tower, `[B, 3, H, W]`, of B images of any mode and size."""
        self.check_modality("image")
        inputs = self.image_processor(images=[decode_image(image) for image in images], return_tensors="pt")
        self._check_inputs(inputs, "pixel_values")
        return inputs["pixel_values"]

    def tokenize(self, texts: Sequence[str]) -> BatchEncoding:
        """The input of the text encoder: `input_ids` and `attention_mask`, `[B, T]`, padded to the longest text."""
        texts = [text.lower() if self.text_settings.do_lower_case else text for text in texts]
        options = {"padding": True, "truncation": True, "max_length": self.max_text_length, "return_tensors": "pt"}
        inputs = self.tokenizer(texts, **options)
        self._check_inputs(inputs, "input_ids")
        return inputs

    @property
    def weights_revision(self) -> str:
        """The exact revision of the weights."""
        return model_revision(self.name_or_path, self._source["revision"])

    def _check_inputs(self, inputs: dict, name: str) -> None:
        if name not in inputs:
            raise ValueError(f"The processor of {self.name_or_path!r} returned {sorted(inputs)}, but no {name!r}.")


def _as_unit_rows(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features, dim=-1).cpu().numpy()  # [B, D]
