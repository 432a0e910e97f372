# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The selectors in the Auto classes of transformers, so that `AutoModel.from_pretrained` knows a selector's folder.

They are registered when transformers imports its Auto classes, or at once if it did so before: importing this package
imports neither transformers nor torch.
"""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec

from .selector_fields import ARCHITECTURES, class_names


class _Deferred(type):
    """A class that is loaded when it is used: importing models here could import a module that is being imported."""

    def __getattr__(cls, name: str):
        return getattr(getattr(importlib.import_module(cls.__module__), cls.__name__), name)


def _deferred(name: str, module: str, **values) -> type:
    return _Deferred(name, (), {"__module__": f"{__package__}.{module}", **values})


def _configs() -> dict[str, type]:
    """The class of the configuration of each model type."""
    return {
        kind: getattr(importlib.import_module(f".configuration_{kind}", __package__), class_names(kind)[0])
        for kind in ARCHITECTURES
    }


def _register_configs() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    for kind, config in _configs().items():
        AutoConfig.register(kind, config)


def _register_models() -> None:
    from transformers.models.auto.modeling_auto import AutoModel

    for kind, config in _configs().items():
        AutoModel.register(config, _deferred(class_names(kind)[1], f"modeling_{kind}", config_class=config))


def _register_processors() -> None:
    from transformers.models.auto.processing_auto import AutoProcessor

    for config in _configs().values():
        AutoProcessor.register(config, _deferred("SelectorProcessor", "processing_selector"))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function after a module was imported; once each."""

    def __init__(self, actions: dict[str, Callable[[], None]]):
        self.actions = actions

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        action = self.actions.pop(fullname, None)
        if action is None:
            return None
        spec = importlib.util.find_spec(fullname)
        execute = spec.loader.exec_module

        def execute_then_act(module) -> None:
            execute(module)
            action()

        spec.loader.exec_module = execute_then_act
        return spec


def register_when_imported() -> None:
    """Registers every selector in `AutoConfig`, `AutoModel` and `AutoProcessor`, now or when these are imported."""
    later = {}
    actions = {"configuration": _register_configs, "modeling": _register_models, "processing": _register_processors}
    for kind, action in actions.items():
        module = f"transformers.models.auto.{kind}_auto"
        if module in sys.modules:
            action()
        else:
            later[module] = action
    sys.meta_path.insert(0, _AfterImport(later))
