"""Mask propagation, from a config: clips with slots, several datasets mixed, the DAVIS scores."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vseg_jax.evaluation import propagation as propagate
from vseg_jax.evaluation.showcase import one_after_another
from vseg_jax.experiment.data import open_data, open_scored
from vseg_jax.index_masks import VOID
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.propagation import PropagationSamples
from vseg_jax.input_pipeline.records import Dataset, decode_image, decode_mask
from vseg_jax.media import overlay
from vseg_jax.models.base import Model, Variables
from vseg_jax.settings import Settings
from vseg_jax.tasks import vos


def batch_shapes(settings: Settings, model: Model) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of one global batch, without any data."""
    clip, propagation = settings.clip, settings.propagation
    return vos.batch_shapes(settings.train.batch_size, propagation.length, clip.height, clip.width,
                            propagation.objects)


class Task:
    """See `vseg_jax.experiment.Task`."""

    def __init__(self, settings: Settings, model: Model, workdir: Path):
        del workdir
        self._settings = settings
        self._model = model
        self._open = functools.cache(lambda: open_scored(settings))

    def samples(self) -> list[tuple[PropagationSamples, float]]:
        """The samples of every training dataset, with their weights."""
        s = self._settings
        mixed = [s.data, *s.extra_datasets.values()]
        opened = [open_data(data) for data in mixed]
        self._open()
        return [
            (PropagationSamples(dataset, s.clip, s.propagation, train=True, seed=s.train.seed),
             data.weight)
            for data, dataset in zip(mixed, opened, strict=True)
        ]

    def evaluate(self, variables: Variables, save: Path | None = None) -> dict[str, Any]:
        """{dataset: `vseg_jax.evaluation.propagation`'s scores}."""
        segmenter = self._segmenter(variables)
        return {
            name: propagate.evaluate(segmenter, dataset,
                                     protocol=self._settings.evaluation.protocol,
                                     save=save / name if save else None)
            for name, dataset in self._open().items()
        }

    def showcase(self, variables: Variables, path: Path) -> None:
        """The first videos of every dataset, one after another."""
        drawn = functools.partial(_predictions, self._segmenter(variables))
        one_after_another(drawn, self._open().values(), self._settings.evaluation.overlay_clips, path)

    def report(self, results: dict[str, Any]) -> None:
        """A table of the scores, in percent."""
        propagate.report(results)

    def _segmenter(self, variables: Variables) -> Segmenter:
        return Segmenter(self._model, variables, short_side=self._settings.evaluation.short_side)


def _predictions(segmenter: Segmenter, dataset: Dataset, number: int):
    """The drawn frames of one video, from its first annotated frame on."""
    record = dataset[number]
    where = f"{dataset.name} video {record.video_id}"
    first = dataset.index[number].annotated[0]
    frames = (decode_image(data, where) for data in record.frames[first:])
    mask = decode_mask(record.masks[first], where)
    for prediction in segmenter.segment(frames, mask=np.where(mask == VOID, 0, mask)):
        yield overlay.draw(prediction.image, np.asarray(prediction.index), record.video_id)
