"""The datasets of a config, opened, and prepared first where necessary."""

from __future__ import annotations

import jax
from jax.experimental import multihost_utils

from vseg_jax.input_pipeline.builders import prepare
from vseg_jax.input_pipeline.records import Dataset, open_dataset
from vseg_jax.input_pipeline.settings import DatasetConfig
from vseg_jax.settings import Settings


def open_data(data: DatasetConfig) -> Dataset:
    """Opens a split of a dataset; if it is not prepared, one process does it and the others wait.

    Raises:
      ValueError: the dataset is neither prepared nor can it be prepared, or has no such split.
    """
    if jax.process_count() > 1:
        if jax.process_index() == 0:
            prepare(data.name, data.source, data.prepared, data.options)
        multihost_utils.sync_global_devices("dataset prepared")
    return open_dataset(prepare(data.name, data.source, data.prepared, data.options), data.split)


def open_evaluated(settings: Settings) -> dict[str, tuple[DatasetConfig, Dataset]]:
    """Opens the datasets of the evaluation; returns them with their configs, by name.

    Raises:
      ValueError: a dataset cannot be opened. The message says how to leave it out.
    """
    opened = {}
    for name, data in settings.evaluation.datasets.items():
        if data is None:   # left out
            continue
        try:
            opened[name] = data, open_data(data)
        except ValueError as error:
            raise ValueError(f"{error} (--config.evaluation.datasets.{name}=None leaves it out of "
                             "the evaluation)") from error
    return opened
