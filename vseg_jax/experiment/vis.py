"""Video instance segmentation as an experiment: classes, mixed datasets, average precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vseg_jax.evaluation import instances
from vseg_jax.experiment.base import BaseTask, Evaluate
from vseg_jax.inference.predict import instance_labels
from vseg_jax.inference.restore import load_categories, save_categories
from vseg_jax.inference.segmentation import INSTANCES
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.instances import InstanceSamples
from vseg_jax.input_pipeline.records import Dataset, decode_image
from vseg_jax.media import overlay
from vseg_jax.models.base import Model, Variables
from vseg_jax.settings import Settings
from vseg_jax.tasks import vis


class Task(BaseTask):
    """Video instance segmentation; see `BaseTask`.

    Raises:
      ValueError: the protocol of the evaluation, or audio in the samples, does not fit the model.
    """

    def __init__(self, settings: Settings, model: Model, workdir: Path) -> None:
        if settings.evaluation.protocol != INSTANCES:
            raise ValueError(f"evaluation.protocol is {settings.evaluation.protocol!r}; a model "
                             f"that finds objects is evaluated by {INSTANCES!r}")
        uses_audio = getattr(model, "uses_audio", False)
        if settings.instances.uses_audio != uses_audio:
            raise ValueError(f"instances.uses_audio is {settings.instances.uses_audio}, but the "
                             f"model {'uses' if uses_audio else 'does not use'} audio; set "
                             "instances.uses_audio to match")
        super().__init__(settings, model, workdir)
        self._categories: tuple[str, ...] = ()

    @staticmethod
    def batch_shapes(settings: Settings, model: Model) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of one global training batch, without any data."""
        del model
        clip, wanted = settings.clip, settings.instances
        return vis.batch_shapes(settings.train.batch_size, wanted.references + 1, clip.height,
                                clip.width, wanted.objects, uses_audio=wanted.uses_audio)

    def samples(self) -> list[tuple[InstanceSamples, float]]:
        """Returns the samples of every training dataset and their weights; saves the names of the
        classes, which are those of the first dataset where the config has none."""
        s = self._settings
        wanted, samples = s.instances, []
        for data, dataset in self._open_training():
            samples.append((
                InstanceSamples(dataset, s.clip, wanted, train=True, seed=s.train.seed),
                data.weight,
            ))
            wanted = dataclasses.replace(wanted, categories=samples[0][0].categories)
        self._categories = wanted.categories
        classes = self._model.config.categories
        if len(self._categories) != classes:
            raise ValueError(f"the data has {len(self._categories)} categories "
                             f"({', '.join(self._categories)}), the model {classes}; set "
                             "model.categories, or name the classes in instances.categories")
        self._check_evaluation()
        self._save_categories()
        return samples

    def showcase(self, variables: Variables, path: Path) -> None:
        """Writes the first videos of every evaluated dataset with predictions."""
        self._show_videos(_draw, variables, path)

    def report(self, results: dict[str, Any]) -> None:
        """Prints the scores that `evaluate` returned as a table, in percent."""
        instances.report(results)

    def _save_categories(self) -> None:
        """Saves the names of the classes, which must stay the same when a run is resumed."""
        if any((self._workdir / "checkpoints").glob("[0-9]*")):
            before = load_categories(self._workdir, self._model)
            if before != self._categories:
                raise ValueError(f"{self._workdir} was trained for {', '.join(before)}; the data "
                                 f"has {', '.join(self._categories)}: use another workdir")
        elif jax.process_index() == 0:
            self._workdir.mkdir(parents=True, exist_ok=True)
            save_categories(self._workdir, self._categories)

    def _scores(self) -> tuple[str, ...]:
        """See `BaseTask`."""
        return instances.SCORES

    def _check_evaluation(self) -> None:
        """See `BaseTask`."""
        for _, dataset in self._evaluated().values():
            instances.check(self._categories, dataset)

    def _segmenter(self, variables: Variables) -> Segmenter:
        names = self._categories or load_categories(self._workdir, self._model)
        return Segmenter(self._model, variables, clip=self._settings.clip, categories=names)

    def _evaluator(self, variables: Variables) -> Evaluate:
        segmenter = self._segmenter(variables)
        return lambda data, dataset, save: instances.evaluate(segmenter, dataset, save=save)


def _draw(segmenter: Segmenter, dataset: Dataset, number: int) -> Iterator[np.ndarray]:
    """Yields the frames of one video with the objects found."""
    record = dataset[number]
    where = f"{dataset.name} video {record.video_id}"
    frames = (decode_image(data, where) for data in record.frames)
    audio = instances.frame_audio(record, dataset.name) if segmenter.uses_audio else None
    for prediction in segmenter.segment(frames, audio=audio):
        yield overlay.draw(prediction.image, prediction.index,
                           labels=instance_labels(prediction))
