"""Referring video segmentation as an experiment: expressions, the tokenizer, scores."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import jax

from vseg_jax.evaluation import expressions, frames, overview, region_scores, summary
from vseg_jax.evaluation.showcase import write_example, write_grid
from vseg_jax.experiment.base import BaseTask, Evaluate
from vseg_jax.experiment.data import open_data
from vseg_jax.inference.restore import TOKENIZER, tokenizer_from
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.records import Dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import DatasetConfig
from vseg_jax.input_pipeline.text import (
    Tokenizer,
    WordTokenizer,
    load_tokenizer,
    make_tokenizer,
)
from vseg_jax.models.base import Model, Variables, reads_flow
from vseg_jax.settings import Settings
from vseg_jax.tasks import rvos

_PROTOCOLS = ("legacy", "coco", expressions.PROTOCOL)


class Task(BaseTask):
    """Referring video segmentation; see `BaseTask`."""

    _tokenizer: Tokenizer | None = None

    @staticmethod
    def batch_shapes(settings: Settings, model: Model) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of one global training batch, without any data."""
        clip = settings.clip
        return rvos.batch_shapes(settings.train.batch_size, clip.length, clip.height, clip.width,
                                 settings.text.length, flow=reads_flow(model))

    def samples(self) -> list[tuple[ReferringSamples, float]]:
        """Returns the samples of every training dataset and their weights; builds and saves the
        tokenizer where there is none."""
        opened = self._open_training()
        texts = {e.text for _, dataset in opened for entry in dataset.index
                 for e in entry.expressions}
        self._tokenizer = _tokenizer(self._settings, self._model, texts, self._workdir)
        self._check_evaluation()
        samples, videos = [], 0
        for data, dataset in opened:
            part = self._samples(data, dataset, train=True, first_video=videos)
            samples.append((part, data.weight))
            videos += len(dataset)
        if not _has_checkpoints(self._workdir) and jax.process_index() == 0:
            shutil.rmtree(self._workdir / TOKENIZER, ignore_errors=True)   # of a run without any
            self._tokenizer.save(self._workdir / TOKENIZER)
        return samples

    def notes(self) -> dict[str, Any]:
        """Returns how the flow of the training data was computed, for a model that reads it."""
        if not reads_flow(self._model):
            return {}
        place = ("dataset", "around")   # where and for which frames
        flow = open_data(self._settings.data).flow
        return {"flow": {key: value for key, value in flow.items() if key not in place}}

    def showcase(self, variables: Variables, path: Path) -> None:
        """Writes a video of clips in a grid with their expressions, a row for each dataset."""
        shown = [dataset for data, dataset in self._evaluated().values()
                 if not data.shuffle_expressions]
        write_grid(self._segmenter(variables), shown, self._settings.evaluation.overlay_clips, path)

    def report(self, results: dict[str, Any]) -> None:
        """Prints the scores that `evaluate` returned as a table, in percent."""
        (region_scores if self._scores_videos() else frames).report(results)

    def conclude(self, results: dict[str, Any], means: Mapping[str, float]) -> None:
        """Prints the scores that tell found from grounded, and in words what they show."""
        if self._scores_videos():
            self.report(results)
        else:
            summary.report(results, self._roles(),
                           getattr(self._model, "remarks", lambda means: [])(means))

    def overview(
        self, before: Callable[[], Variables], after: Variables, path: Path
    ) -> None:
        """Writes a picture of predictions before and after the training."""
        roles, sets = self._roles(), {}
        for name, (data, dataset) in self._evaluated().items():
            if not data.shuffle_expressions:
                title = f"{name}: a domain not seen in training" if roles[name].unseen else name
                sets[title] = self._samples(data, dataset, train=False)
        overview.write(self._model, before(), after, sets, path,
                       protocol=self._settings.evaluation.protocol)

    def example(self, path: Path) -> list[str]:
        """See `BaseTask`; the query is an expression of the video."""
        dataset = next(iter(self._evaluated().values()))[1]
        number = next(i for i, entry in enumerate(dataset.index) if entry.expressions)
        write_example(dataset, path, number)
        return ["--video", str(path), "--query", dataset.index[number].expressions[0].text]

    def _scores_videos(self) -> bool:
        return self._settings.evaluation.protocol == expressions.PROTOCOL

    def _roles(self) -> dict[str, summary.Role]:
        """Returns what each evaluated dataset is for."""
        datasets = {name: data for name, (data, _) in self._evaluated().items()}
        settings = self._settings
        trained = {_domain(data) for data in (settings.data, *settings.extra_datasets.values())}
        roles = {}
        for name, data in datasets.items():
            own = dataclasses.replace(data, shuffle_expressions=False)
            roles[name] = summary.Role(
                next((other for other, candidate in datasets.items() if candidate == own), "")
                if data.shuffle_expressions else None,
                unseen=_domain(data) not in trained)
        return roles

    def _scores(self) -> tuple[str, ...]:
        """See `BaseTask`."""
        return region_scores.SCORES if self._scores_videos() else frames.SCORES

    def _check_evaluation(self) -> None:
        """See `BaseTask`."""
        protocol = self._settings.evaluation.protocol
        if protocol not in _PROTOCOLS:
            raise ValueError(f"evaluation.protocol is {protocol!r}; a model that takes queries is "
                             f"evaluated by {', '.join(map(repr, _PROTOCOLS))}")
        for data, dataset in self._evaluated().values():
            if self._scores_videos():
                expressions.check(dataset, data.styles, data.categories, data.shuffle_expressions)
            else:
                self._samples(data, dataset, train=False)

    def _segmenter(self, variables: Variables) -> Segmenter:
        return Segmenter(self._model, variables, self._loaded_tokenizer(), self._settings.clip,
                         self._settings.evaluation.protocol)

    def _evaluator(self, variables: Variables) -> Evaluate:
        evaluation = self._settings.evaluation
        if self._scores_videos():
            segmenter = self._segmenter(variables)
            return lambda data, dataset, save: expressions.evaluate(
                segmenter, dataset, styles=data.styles, categories=data.categories,
                shuffle_expressions=data.shuffle_expressions, save=save)
        return lambda data, dataset, save: frames.evaluate(
            self._model, variables, self._samples(data, dataset, train=False),
            batch_size=evaluation.batch_size, protocol=evaluation.protocol,
            gt_roundtrip=evaluation.gt_roundtrip, save=save, workers=self._settings.workers)

    def _samples(self, data: DatasetConfig, dataset: Dataset, *, train: bool,
                 first_video: int = 0) -> ReferringSamples:
        return ReferringSamples(
            dataset, self._settings.clip, self._loaded_tokenizer(), train=train,
            seed=self._settings.train.seed, styles=data.styles, categories=data.categories,
            frames=data.frames, shuffle_expressions=data.shuffle_expressions,
            flow=reads_flow(self._model), first_video=first_video, listed=data.samples,
        )

    def _loaded_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._workdir / TOKENIZER, self._settings.text.length)
        return self._tokenizer


def _domain(data: DatasetConfig) -> tuple[str, str]:
    """Returns the dataset and, of a split such as "source_test", what comes before "_test"."""
    return data.name, data.split.rpartition("_")[0]


def _tokenizer(settings: Settings, model: Model, texts: Collection[str],
               workdir: Path) -> Tokenizer:
    """Returns the tokenizer of the workdir's checkpoints, or else that of `init_from` with the new
    words of `texts`, or else a new one."""
    if _has_checkpoints(workdir):
        return load_tokenizer(workdir / TOKENIZER, settings.text.length)
    start, length = settings.init_from, settings.text.length
    return tokenizer_of(settings, model, texts, tokenizer_from(start, length) if start else None)


def _has_checkpoints(workdir: Path) -> bool:
    """Returns whether a workdir has checkpoints, and the tokenizer that belongs to them."""
    return (workdir / TOKENIZER).is_dir() and any((workdir / "checkpoints").glob("[0-9]*"))


def tokenizer_of(settings: Settings, model: Model, texts: Collection[str],
                 before: Tokenizer | None = None) -> Tokenizer:
    """Returns a new tokenizer; its words are those of `texts` if the config names no folder.

    Args:
      settings: of the run.
      model: that gets the ids.
      texts: expressions.
      before: the tokenizer of the variables that the run is initialized from: words keep the ids
        under which they were learned.

    Raises:
      ValueError: it cannot be read, the model does not know all of its ids, or `before` is of
        another kind.
    """
    tokenizer = make_tokenizer(settings.text, texts)
    if before is not None and type(before) is not type(tokenizer):
        raise ValueError(f"text.tokenizer is {settings.text.tokenizer!r}, but the model of "
                         f"init_from {settings.init_from} has a tokenizer of another kind, whose "
                         "ids mean other words; set text.tokenizer as it was there")
    if isinstance(before, WordTokenizer):
        tokenizer, new = before.extended(texts)
        if new and jax.process_index() == 0:
            shown = ", ".join(new[:8]) + (", ..." if len(new) > 8 else "")
            print(f"init_from: {len(new)} words are new to the model: {shown}", flush=True)
    known = getattr(model, "vocabulary", tokenizer.size)
    if tokenizer.size > known:
        raise ValueError(
            f"the tokenizer has {tokenizer.size} token ids, but the model knows {known}; raise the "
            "vocabulary in config.model, or use the tokenizer of the model's text weights"
        )
    return tokenizer
