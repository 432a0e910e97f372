# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
What the files of sentence-transformers say about an encoder, and whether its embeddings can be computed here.

Computed are those of a transformer with mean pooling, normalised or not: cosine similarity is the same. Other modules,
poolings and prompts are refused by name, since embeddings without them are wrong and raise no error.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import cached_file


#: Modules that can be computed, in their order; the last one may be missing.
SENTENCE_MODULES, CLIP_MODULES = ("Transformer", "Pooling", "Normalize"), ("CLIPModel", "Normalize")
#: Where the settings of the transformer are kept: the first of these that exists counts.
SETTINGS_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
#: Settings that ask for nothing beyond the transformer's last hidden states.
NEUTRAL_SETTINGS = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
}
POOLING_FLAG = "pooling_mode_"


@dataclass(frozen=True)
class TextSettings:
    """
    How an encoder's texts are prepared.

    Args:
        max_seq_length (`int`, *optional*, defaults to that of the tokenizer):
            Most tokens of a text, special tokens included.
        do_lower_case (`bool`, *optional*, defaults to `False`):
            Whether texts are made lower case before they are tokenised.
    """

    max_seq_length: int | None = None
    do_lower_case: bool = False


class SentenceEncoderFiles:
    """
    The files that sentence-transformers keeps beside a model.

    Args:
        name_or_path (`str`):
            Hub id or folder.
        revision (`str`, *optional*):
            Branch, tag or commit on the hub.
    """

    def __init__(self, name_or_path: str, revision: str | None = None) -> None:
        self.name_or_path, self.revision = name_or_path, revision

    def check_clip(self) -> None:
        """Raises `ValueError` if further modules change the projections of a CLIP model."""
        modules = self._modules()
        if modules and modules[0][0] == "Transformer":  # newer releases name every model so
            modules[0] = ("CLIPModel", modules[0][1])
        self._check_modules(modules, CLIP_MODULES)

    def text_settings(self) -> TextSettings:
        """
        How a sentence encoder prepares texts.

        Raises:
            `ValueError`: a module, a pooling, a prompt or a setting with which the embeddings are not the mean of the
                last hidden states.
        """
        modules = self._modules()
        self._check_modules(modules, SENTENCE_MODULES)
        self._check_pooling(dict(modules).get("Pooling", "1_Pooling"))
        self._check_similarity(normalized="Normalize" in dict(modules))
        for file in SETTINGS_FILES:
            settings = self._read(file, dict)
            if settings:
                return self._settings(settings, file)
        return TextSettings()

    def _modules(self) -> list[tuple[str, str]]:
        """Class and folder of each module; none if they are not listed."""
        found = self._read("modules.json", list) or []
        if not all(isinstance(module, dict) and {"type", "path"} <= module.keys() for module in found):
            self._refuse(f"the modules {found}", "modules.json")
        return [(str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in found]

    def _check_modules(self, modules: list[tuple[str, str]], known: tuple[str, ...]) -> None:
        names = tuple(name for name, _ in modules)
        if names and names not in (known, known[:-1]):
            foreign = [name for name in names if name not in known]
            self._refuse(f"the module {foreign[0]}" if foreign else f"the modules {', '.join(names)}", "modules.json")
        if modules and modules[0][1]:
            self._refuse(f"its weights in the subfolder {modules[0][1]!r}", "modules.json")

    def _check_pooling(self, folder: str) -> None:
        """Mean alone: older releases write a flag for each pooling, newer ones a name."""
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

    def _settings(self, settings: dict[str, Any], file: str) -> TextSettings:
        limit, lower_case = settings.get("max_seq_length"), settings.get("do_lower_case")
        for name, value in settings.items():
            if value and name not in ("max_seq_length", "do_lower_case") and value != NEUTRAL_SETTINGS.get(name):
                self._refuse(f"the setting {name}: {value!r}", file)
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            self._refuse(f"max_seq_length {limit!r}", file)
        return TextSettings(limit, bool(lower_case))

    def _read(self, file: str, kind: type) -> Any:
        """Content of a JSON file, `None` if there is no such file."""
        optional = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        found = cached_file(self.name_or_path, file, revision=self.revision, **optional)
        if found is None:
            return None
        try:
            content = json.loads(Path(found).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} of the encoder {self.name_or_path!r} is not JSON ({error}).") from error
        if not isinstance(content, kind):
            raise ValueError(f"{file} of the encoder {self.name_or_path!r} holds no {kind.__name__}: {content!r}.")
        return content

    def _refuse(self, what: str, file: str) -> None:
        raise ValueError(
            f"The encoder {self.name_or_path!r} has {what} ({file}), which is not supported: expected a transformer "
            "with mean pooling and no prompts. Name another encoder; a later version brings the library that reads "
            "this one."
        )
