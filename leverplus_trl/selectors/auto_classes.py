# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The selectors in the Auto classes of transformers, so that `AutoModel.from_pretrained` knows a selector's folder.

They are registered when transformers imports its Auto classes, or at once if it did so before: importing this package
imports neither transformers nor torch.
"""

import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec

from .selector_fields import ARCHITECTURES, class_names


AUTO = "transformers.models.auto.{}_auto"


class _Deferred(type):
    """A class that is loaded when it is used: importing models here could import a module that is being imported."""

    def __getattr__(cls, name: str):
        return getattr(getattr(importlib.import_module(cls.__module__), cls.__name__), name)


def _deferred(name: str, module: str, **values) -> type:
    return _Deferred(name, (), {"__module__": f"{__package__}.{module}", **values})


def _register(part: str) -> None:
    """Registers every selector in an Auto class, after the module `<part>_auto` of transformers was imported."""
    auto = importlib.import_module(AUTO.format(part))
    for kind in ARCHITECTURES:
        config_name, model_name = class_names(kind)
        config = getattr(importlib.import_module(f".configuration_{kind}", __package__), config_name)
        if part == "configuration":
            auto.AutoConfig.register(kind, config)
        elif part == "modeling":
            auto.AutoModel.register(config, _deferred(model_name, f"modeling_{kind}", config_class=config))
        else:
            auto.AutoProcessor.register(config, _deferred("SelectorProcessor", "processing_selector"))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Registers the selectors after a module of Auto classes was imported; `parts` are those still to come."""

    def __init__(self, parts: list[str]):
        self.parts = {AUTO.format(part): part for part in parts}

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        part = self.parts.pop(fullname, None)
        if part is None:
            return None
        spec = importlib.util.find_spec(fullname)
        execute = spec.loader.exec_module

        def execute_then_register(module) -> None:
            execute(module)
            _register(part)

        spec.loader.exec_module = execute_then_register
        return spec


def register_when_imported() -> None:
    """Registers every selector in `AutoConfig`, `AutoModel` and `AutoProcessor`, now or when these are imported."""
    later = []
    for part in ("configuration", "modeling", "processing"):
        if AUTO.format(part) in sys.modules:
            _register(part)
        else:
            later.append(part)
    sys.meta_path.insert(0, _AfterImport(later))
