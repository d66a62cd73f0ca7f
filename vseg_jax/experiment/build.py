"""From a config to the settings, the model and the task of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from vseg_jax import config, models
from vseg_jax.experiment import rvos, vis, vos
from vseg_jax.experiment.base import BaseTask
from vseg_jax.models.base import Model
from vseg_jax.settings import Settings

TASKS: dict[str, type[BaseTask]] = {"rvos": rvos.Task, "vis": vis.Task, "vos": vos.Task}


def read(name_and_variant: str, overrides: Mapping[str, str]) -> Settings:
    """Returns the settings of a config, with every key checked; see `vseg_jax.config.load`."""
    return config.parse(Settings, config.load(name_and_variant, overrides).to_dict())


def build_model(settings: Settings) -> Model:
    """Builds the model that the settings describe.

    Raises:
      ValueError: an unknown model or key, or a value that the model cannot be built with.
    """
    parsed = config.parse(models.load(settings.system).Config, settings.model, "config.model")
    return models.build(settings.system, parsed)


def build_task(settings: Settings, model: Model, workdir: Path) -> BaseTask:
    """Builds the task of a run; see `BaseTask`.

    Raises:
      ValueError: settings that do not fit the model.
    """
    return _task_class(model)(settings, model, workdir)


def batch_shapes(settings: Settings, model: Model) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of one global training batch, without any data."""
    return _task_class(model).batch_shapes(settings, model)


def describe(settings: Settings, model: Model) -> dict[str, Any]:
    """Returns the settings as plain values, with every key of the model's config.

    Runs save it, and compare it when they are resumed.
    """
    plain = dataclasses.asdict(model.config)
    return dataclasses.asdict(dataclasses.replace(settings, model=plain))


def _task_class(model: Model) -> type[BaseTask]:
    return TASKS[model.task]
