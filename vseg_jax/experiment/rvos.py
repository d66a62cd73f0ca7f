"""Referring video segmentation, from a config: sentences, tokenizer, scores."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import jax

from vseg_jax.evaluation import expressions
from vseg_jax.evaluation import frames as scoring
from vseg_jax.evaluation import propagation as propagate
from vseg_jax.experiment.data import open_data, open_scored
from vseg_jax.inference.restore import TOKENIZER
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.records import Dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import DatasetConfig
from vseg_jax.input_pipeline.text import Tokenizer, load_tokenizer, make_tokenizer
from vseg_jax.models.base import Model, Variables, reads_flow
from vseg_jax.settings import Settings
from vseg_jax.tasks import rvos

COLUMNS = ("precision@0.5", "precision@0.7", "precision@0.9", "mAP", "overall_iou", "mean_iou")


def batch_shapes(settings: Settings, model: Model) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of one global batch, without any data."""
    clip = settings.clip
    return rvos.batch_shapes(settings.train.batch_size, clip.length, clip.height, clip.width,
                             settings.text.length, flow=reads_flow(model))


class Task:
    """See `vseg_jax.experiment.Task`."""

    def __init__(self, settings: Settings, model: Model, workdir: Path):
        self._settings = settings
        self._model = model
        self._workdir = workdir
        self._open = functools.cache(lambda: open_scored(settings))
        self._tokenizer: Tokenizer | None = None

    def samples(self) -> ReferringSamples:
        """The training's samples; its tokenizer is made and saved where there is none."""
        data = self._settings.data
        dataset = open_data(data)
        self._open()
        self._tokenizer = _tokenizer(self._settings, self._model, dataset, self._workdir)
        return self._of(data, dataset, train=True)

    def evaluate(self, variables: Variables, save: Path | None = None) -> dict[str, Any]:
        """{dataset: scores of `vseg_jax.evaluation.frames`, or of whole videos}."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._workdir / TOKENIZER, self._settings.text.length)
        e = self._settings.evaluation
        if e.protocol == expressions.PROTOCOL:
            segmenter = self._segmenter(variables)
            return {name: _of_videos(segmenter, e.datasets[name], dataset, save and save / name)
                    for name, dataset in self._open().items()}
        return {
            name: scoring.evaluate(
                self._model, variables, self._of(e.datasets[name], dataset, train=False),
                batch_size=e.batch_size, protocol=e.protocol, gt_roundtrip=e.gt_roundtrip,
                save=save / name if save else None, workers=self._settings.workers,
            )
            for name, dataset in self._open().items()
        }

    def showcase(self, variables: Variables, path: Path) -> None:
        """Clips side by side, a sentence below each, a row a dataset."""
        from vseg_jax.evaluation.showcase import showcase

        e, segmenter = self._settings.evaluation, self._segmenter(variables)
        shown = [dataset for name, dataset in self._open().items()
                 if not e.datasets[name].shuffle_expressions]
        showcase(segmenter, shown, e.overlay_clips, path)

    def report(self, results: dict[str, Any]) -> None:
        """A table of the scores, in percent."""
        if self._settings.evaluation.protocol == expressions.PROTOCOL:
            propagate.report(results)
            return
        width = max((len(name) for name in results), default=0)
        print(" " * width, *(f"{c:>13}" for c in COLUMNS))
        for name, result in results.items():
            print(f"{name:{width}}", *(f"{100 * result[c]:13.1f}" for c in COLUMNS))

    def _segmenter(self, variables: Variables) -> Segmenter:
        return Segmenter(self._model, variables, self._tokenizer, self._settings.clip,
                         self._settings.evaluation.protocol)

    def _of(self, data: DatasetConfig, dataset: Dataset, *, train: bool) -> ReferringSamples:
        return ReferringSamples(
            dataset, self._settings.clip, self._tokenizer, train=train,
            seed=self._settings.train.seed, styles=data.styles, categories=data.categories,
            frames=data.frames, shuffle_expressions=data.shuffle_expressions,
            flow=reads_flow(self._model),
        )


def _of_videos(segmenter: Segmenter, data: DatasetConfig, dataset: Dataset,
               save: Path | None) -> dict[str, Any]:
    return expressions.evaluate(
        segmenter, dataset, styles=data.styles, categories=data.categories,
        shuffle_expressions=data.shuffle_expressions, save=save,
    )


def _tokenizer(settings: Settings, model: Model, dataset: Dataset, workdir: Path) -> Tokenizer:
    """The tokenizer that the workdir's checkpoints were made with, else a new one, saved there."""
    folder = workdir / TOKENIZER
    if folder.is_dir() and any((workdir / "checkpoints").glob("[0-9]*")):
        return load_tokenizer(folder, settings.text.length)
    sentences = {e.text for entry in dataset.index for e in entry.expressions}
    tokenizer = make_tokenizer(settings.text, sentences)
    known = getattr(model, "vocabulary", tokenizer.size)
    if tokenizer.size > known:
        raise ValueError(
            f"the tokenizer has {tokenizer.size} token ids, but the model knows {known}; raise the "
            "vocabulary in config.model, or take the tokenizer that its text weights came with"
        )
    if jax.process_index() == 0:
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that saved no checkpoint
        tokenizer.save(folder)
    return tokenizer
