# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Reads the files of sentence-transformers, and checks whether [`~embeddings.Encoder`] can compute the embeddings.

Transformers with mean pooling are supported, with or without normalisation, which does not change cosine similarity.
Other modules, poolings and prompts are refused: embeddings without them would be wrong, and raise no error.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import cached_file


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
    """The files of sentence-transformers in the folder or hub repository of a model."""

    def __init__(self, name_or_path: str, revision: str | None = None) -> None:
        self.name_or_path, self.revision = name_or_path, revision

    def check_clip(self) -> None:
        """Raises `ValueError` if a CLIP model has modules after its projections."""
        modules = self._modules()
        if modules and modules[0][0] == "Transformer":  # the name of every model in newer releases
            modules[0] = ("CLIPModel", modules[0][1])
        self._check_modules(modules, CLIP_MODULES)

    def text_settings(self) -> TextSettings:
        """The preprocessing of a sentence encoder; raises `ValueError` if a module, pooling, prompt or setting is not
        supported."""
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
        """Class and folder of each module; empty if there is no list of modules."""
        modules = self._read("modules.json", list) or []
        if not all(isinstance(module, dict) and {"type", "path"} <= module.keys() for module in modules):
            self._refuse(f"the modules {modules}", "modules.json")
        return [(str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in modules]

    def _check_modules(self, modules: list[tuple[str, str]], known: tuple[str, ...]) -> None:
        names = tuple(name for name, _ in modules)
        if names and names not in (known, known[:-1]):
            foreign = [name for name in names if name not in known]
            self._refuse(f"the module {foreign[0]}" if foreign else f"the modules {', '.join(names)}", "modules.json")
        if modules and modules[0][1]:
            self._refuse(f"its weights in the subfolder {modules[0][1]!r}", "modules.json")

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

    def _settings(self, settings: dict[str, Any], file: str) -> TextSettings:
        limit, lower_case = settings.get("max_seq_length"), settings.get("do_lower_case")
        for name, value in settings.items():
            if value and name not in ("max_seq_length", "do_lower_case") and value != NEUTRAL_SETTINGS.get(name):
                self._refuse(f"the setting {name}: {value!r}", file)
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            self._refuse(f"max_seq_length {limit!r}", file)
        return TextSettings(limit, bool(lower_case))

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
