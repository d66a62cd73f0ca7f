"""What the tasks have in common as experiments: datasets, scores, the overlay video."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vseg_jax.config import nearest
from vseg_jax.evaluation.showcase import write_example, write_sequence
from vseg_jax.experiment.data import open_data, open_evaluated
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.records import Dataset
from vseg_jax.input_pipeline.settings import DatasetConfig
from vseg_jax.models.base import Model, Variables
from vseg_jax.settings import Settings

Evaluate = Callable[[DatasetConfig, Dataset, Path | None], dict[str, Any]]
Draw = Callable[[Segmenter, Dataset, int], Iterable[np.ndarray]]


class BaseTask(abc.ABC):
    """A task of the field in one run: its samples, its scores and its overlay video.

    Args:
      settings: the config of the run.
      model: the model that it describes.
      workdir: of the run.
    """

    def __init__(self, settings: Settings, model: Model, workdir: Path) -> None:
        self._settings = settings
        self._model = model
        self._workdir = workdir
        self._evaluated = functools.cache(lambda: open_evaluated(settings))

    @staticmethod
    @abc.abstractmethod
    def batch_shapes(settings: Settings, model: Model) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of one global training batch, without any data."""

    @abc.abstractmethod
    def samples(self) -> Any:
        """Returns what `vseg_jax.input_pipeline.loader.train_batches` draws from.

        Prepares and opens the datasets of the training and of the evaluation, and saves in the
        workdir what inference needs besides the variables.

        Raises:
          ValueError: the datasets cannot be opened, do not fit the model, or cannot be evaluated;
            nothing has been saved then.
        """

    def notes(self) -> dict[str, Any]:
        """Returns plain values that a checkpoint should hold besides the config; after `samples`.
        """
        return {}

    @abc.abstractmethod
    def showcase(self, variables: Variables, path: Path) -> None:
        """Writes a video that shows predictions on the evaluated datasets."""

    @abc.abstractmethod
    def report(self, results: dict[str, Any]) -> None:
        """Prints the scores that `evaluate` returned as a table, in percent."""

    def conclude(self, results: dict[str, Any], means: Mapping[str, float]) -> None:
        """Prints what a training run has shown, for a reader who does not know the project.

        Args:
          results: what `evaluate` returned.
          means: the last means of the training.
        """
        del means
        self.report(results)

    def overview(
        self, before: Callable[[], Variables], after: Variables, path: Path
    ) -> None:
        """Writes a picture of predictions before and after the training; by default nothing.

        Args:
          before: returns the variables that the training started from.
          after: those at its end.
          path: the picture.
        """
        del before, after, path

    def example(self, path: Path) -> list[str]:
        """Writes a video of the evaluated datasets, and returns the options of `vseg predict` that
        segment it."""
        write_example(next(iter(self._evaluated().values()))[1], path)
        return ["--video", str(path)]

    @abc.abstractmethod
    def _scores(self) -> tuple[str, ...]:
        """Returns the scores of an evaluation by which a checkpoint can be chosen."""

    @abc.abstractmethod
    def _check_evaluation(self) -> None:
        """Raises, before the training, a ValueError that `evaluate` would raise after it."""

    @abc.abstractmethod
    def _segmenter(self, variables: Variables) -> Segmenter:
        """Returns a segmenter as `vseg_jax.load` makes it from a checkpoint."""

    @abc.abstractmethod
    def _evaluator(self, variables: Variables) -> Evaluate:
        """Returns a function that evaluates on one dataset and saves predictions in a folder."""

    def evaluate(
        self, variables: Variables, save: Path | None = None, only: str = ""
    ) -> dict[str, Any]:
        """Returns {dataset: scores} for every dataset of the evaluation.

        Args:
          variables: the model's collections.
          save: folder for the predictions, a folder in it for each dataset; None saves nothing.
          only: name of the only dataset to evaluate; "" for all.
        """
        evaluate = self._evaluator(variables)
        return {name: evaluate(data, dataset, save / name if save else None)
                for name, (data, dataset) in self._evaluated().items() if only in ("", name)}

    def _show_videos(self, draw: Draw, variables: Variables, path: Path) -> None:
        """Writes a video of the first videos of every evaluated dataset, one after another."""
        write_sequence(functools.partial(draw, self._segmenter(variables)),
                       [dataset for _, dataset in self._evaluated().values()],
                       self._settings.evaluation.overlay_clips, path)

    def _open_training(self) -> list[tuple[DatasetConfig, Dataset]]:
        """Returns the datasets that are mixed for training; opens those of the evaluation too, so
        that what is missing is found before the training.

        Raises:
          ValueError: a dataset cannot be opened, or `evaluation.choose_by` names no score.
        """
        chosen = self._settings.evaluation.choose_by
        score = chosen.partition("/")[2]
        if chosen and score not in self._scores():
            raise ValueError(f"evaluation.choose_by is '{chosen}', but the evaluation has no score "
                             f"'{score}'{nearest(score, self._scores())}")
        mixed = [self._settings.data, *self._settings.extra_datasets.values()]
        opened = [(data, open_data(data)) for data in mixed]
        self._evaluated()
        return opened
