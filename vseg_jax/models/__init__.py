"""The registry of models: one subpackage per paper, each with a `Config` dataclass and a `Model`.

A model's subpackage is imported only when the model is requested.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from vseg_jax.config import nearest, parse
from vseg_jax.models.base import Model

__all__ = ["MODELS", "Model", "build", "load"]

MODELS = {
    "cvls": "vseg_jax.models.cvls",
    "mmvt": "vseg_jax.models.mmvt",
    "qvim": "vseg_jax.models.qvim",
    "rcf": "vseg_jax.models.rcf",
    "swiftnet": "vseg_jax.models.swiftnet",
}


def build(name: str, settings: Mapping[str, Any] | Any) -> Model:
    """Builds the model `name` from its settings: a mapping of config keys, or its `Config`.

    Raises:
      ValueError: there is no such model, or a config key is unknown or has a wrong value.
    """
    module = load(name)
    if not isinstance(settings, module.Config):
        settings = parse(module.Config, settings, "model")
    return module.Model(settings)


def load(name: str) -> ModuleType:
    """Imports the subpackage of the model `name`, with its `Config` and `Model`.

    Raises:
      ValueError: there is no such model.
    """
    if name not in MODELS:
        raise ValueError(f"no model '{name}'{nearest(name, MODELS)}")
    return importlib.import_module(MODELS[name])
