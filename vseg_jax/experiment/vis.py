"""Video instance segmentation, from a config: classes, datasets mixed, average precision."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vseg_jax.evaluation import instances
from vseg_jax.evaluation.showcase import one_after_another
from vseg_jax.experiment.data import open_data, open_scored
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


def batch_shapes(settings: Settings, model: Model) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of one global batch, without any data."""
    clip, wanted = settings.clip, settings.instances
    return vis.batch_shapes(settings.train.batch_size, wanted.references + 1, clip.height,
                            clip.width, wanted.objects, uses_audio=wanted.uses_audio)


class Task:
    """See `vseg_jax.experiment.Task`."""

    def __init__(self, settings: Settings, model: Model, workdir: Path):
        if settings.evaluation.protocol != INSTANCES:
            raise ValueError(f"evaluation.protocol is {settings.evaluation.protocol!r}; a model "
                             f"that finds objects is scored by {INSTANCES!r}")
        if settings.instances.uses_audio != model.uses_audio:
            raise ValueError(f"instances.uses_audio is {settings.instances.uses_audio}, but the model "
                             f"{'takes' if model.uses_audio else 'does not take'} audio; set both alike")
        self._settings = settings
        self._model = model
        self._workdir = workdir
        self._open = functools.cache(lambda: open_scored(settings))
        self._categories: tuple[str, ...] = ()

    def samples(self) -> list[tuple[InstanceSamples, float]]:
        """The samples of every training dataset, with their weights; the names of the classes,
        which are the first dataset's where the config names none, are written down."""
        s = self._settings
        mixed = [s.data, *s.extra_datasets.values()]
        opened = [open_data(data) for data in mixed]
        self._open()
        wanted, samples = s.instances, []
        for data, dataset in zip(mixed, opened, strict=True):
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
        self._write_down()
        return samples

    def _write_down(self) -> None:
        """The classes' names, once; those of a run that goes on must be the same."""
        if any((self._workdir / "checkpoints").glob("[0-9]*")):
            before = load_categories(self._workdir, self._model)
            if before != self._categories:
                raise ValueError(f"{self._workdir} was trained for {', '.join(before)}; the data "
                                 f"has {', '.join(self._categories)}: take another workdir")
        elif jax.process_index() == 0:
            self._workdir.mkdir(parents=True, exist_ok=True)
            save_categories(self._workdir, self._categories)

    def evaluate(self, variables: Variables, save: Path | None = None) -> dict[str, Any]:
        """{dataset: `vseg_jax.evaluation.instances`' scores}."""
        segmenter = self._segmenter(variables)
        return {name: instances.evaluate(segmenter, dataset, save=save / name if save else None)
                for name, dataset in self._open().items()}

    def showcase(self, variables: Variables, path: Path) -> None:
        """The first videos of every dataset, one after another."""
        drawn = functools.partial(_predictions, self._segmenter(variables))
        one_after_another(drawn, self._open().values(), self._settings.evaluation.overlay_clips, path)

    def report(self, results: dict[str, Any]) -> None:
        """A table of the scores, in percent."""
        instances.report(results)

    def _segmenter(self, variables: Variables) -> Segmenter:
        names = self._categories or load_categories(self._workdir, self._model)
        return Segmenter(self._model, variables, clip=self._settings.clip, categories=names)


def _predictions(segmenter: Segmenter, dataset: Dataset, number: int) -> Iterator[np.ndarray]:
    """The drawn frames of one video."""
    record = dataset[number]
    where = f"{dataset.name} video {record.video_id}"
    frames = (decode_image(data, where) for data in record.frames)
    audio = instances.heard(record, dataset.name) if segmenter.uses_audio else None
    for prediction in segmenter.segment(frames, audio=audio):
        yield overlay.draw(prediction.image, prediction.index, labels=instance_labels(prediction))
