"""Datasets of a config, prepared where they are not and opened."""

from __future__ import annotations

import jax
from jax.experimental import multihost_utils

from vseg_jax.input_pipeline.builders import prepare
from vseg_jax.input_pipeline.records import Dataset, open_dataset
from vseg_jax.input_pipeline.settings import DatasetConfig
from vseg_jax.settings import Settings


def open_data(data: DatasetConfig) -> Dataset:
    """The dataset's split; one process prepares what is not there, the others wait."""
    if jax.process_count() > 1:
        if jax.process_index() == 0:
            prepare(data.name, data.source, data.prepared, data.options)
        multihost_utils.sync_global_devices("dataset prepared")
    return open_dataset(prepare(data.name, data.source, data.prepared, data.options), data.split)


def open_scored(settings: Settings) -> dict[str, Dataset]:
    """The datasets of the evaluation: what cannot be opened is said before the training."""
    opened = {}
    for name, data in settings.evaluation.datasets.items():
        try:
            opened[name] = open_data(data)
        except ValueError as error:
            raise ValueError(f"{error} (--config.evaluation.datasets.{name}=None leaves it out of "
                             "the evaluation)") from error
    return opened
