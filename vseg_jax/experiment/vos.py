"""Mask propagation as an experiment: clips with slots, mixed datasets, J and F."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vseg_jax.evaluation import propagation, region_scores
from vseg_jax.evaluation.showcase import write_example
from vseg_jax.experiment.base import BaseTask, Evaluate
from vseg_jax.index_masks import VOID
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.propagation import PropagationSamples
from vseg_jax.input_pipeline.records import Dataset, decode_image, decode_mask
from vseg_jax.media import overlay
from vseg_jax.models.base import Model, Variables
from vseg_jax.settings import Settings
from vseg_jax.tasks import vos


class Task(BaseTask):
    """Mask propagation; see `BaseTask`."""

    @staticmethod
    def batch_shapes(settings: Settings, model: Model) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of one global training batch, without any data."""
        del model
        clip, clips = settings.clip, settings.propagation
        return vos.batch_shapes(settings.train.batch_size, clips.length, clip.height, clip.width,
                                clips.objects)

    def samples(self) -> list[tuple[PropagationSamples, float]]:
        """Returns the samples of every training dataset and their weights."""
        s, opened = self._settings, self._open_training()
        self._check_evaluation()
        return [
            (PropagationSamples(dataset, s.clip, s.propagation, train=True, seed=s.train.seed,
                                batch_size=s.train.batch_size), data.weight)
            for data, dataset in opened
        ]

    def showcase(self, variables: Variables, path: Path) -> None:
        """Writes the first videos of every evaluated dataset with predictions."""
        self._show_videos(_draw, variables, path)

    def example(self, path: Path) -> list[str]:
        """See `BaseTask`; the prompt is the mask of the video's first frame."""
        mask = path.with_suffix(".png")
        write_example(next(iter(self._evaluated().values()))[1], path, mask=mask)
        return ["--video", str(path), "--mask", str(mask)]

    def report(self, results: dict[str, Any]) -> None:
        """Prints the scores that `evaluate` returned as a table, in percent."""
        region_scores.report(results)

    def _scores(self) -> tuple[str, ...]:
        """See `BaseTask`."""
        return region_scores.SCORES

    def _check_evaluation(self) -> None:
        """See `BaseTask`."""
        for _, dataset in self._evaluated().values():
            propagation.check(dataset, self._settings.evaluation.protocol)

    def _segmenter(self, variables: Variables) -> Segmenter:
        return Segmenter(self._model, variables, short_side=self._settings.evaluation.short_side)

    def _evaluator(self, variables: Variables) -> Evaluate:
        segmenter, settings = self._segmenter(variables), self._settings.evaluation
        return lambda data, dataset, save: propagation.evaluate(
            segmenter, dataset, protocol=settings.protocol, skip_absent=settings.skip_absent,
            save=save)


def _draw(segmenter: Segmenter, dataset: Dataset, number: int) -> Iterator[np.ndarray]:
    """Yields the frames of one video with predictions, from its first annotated frame on."""
    record = dataset[number]
    where = f"{dataset.name} video {record.video_id}"
    first = dataset.index[number].annotated[0]
    frames = (decode_image(data, where) for data in record.frames[first:])
    mask = decode_mask(record.masks[first], where)
    for prediction in segmenter.segment(frames, mask=np.where(mask == VOID, 0, mask)):
        yield overlay.draw(prediction.image, np.asarray(prediction.index), record.video_id)
