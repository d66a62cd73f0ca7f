"""Referring segmentation of whole videos, scored by J and F.

An expression refers to one object, which is segmented in every frame of its video. All annotated
frames count, including those without the object, where the right prediction is empty. Scores are
means over an expression's frames, then over all expressions, as on the server of Refer-YouTube-VOS.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from vseg_jax.evaluation import runner
from vseg_jax.evaluation.region_scores import gather_scores
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.records import (
    Dataset,
    IndexEntry,
    Record,
    decode_flow,
    decode_image,
    decode_mask,
)
from vseg_jax.input_pipeline.samples import expression_pairs
from vseg_jax.media import overlay
from vseg_jax.metrics.davis import DavisMetric
from vseg_jax.models.base import reads_flow

PROTOCOL = "expressions"
Pairs = list[tuple[int, str]]  # number of the scored expression, and the query


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    *,
    styles: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    shuffle_expressions: bool = False,
    at_once: int = 4,
    save: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Returns the scores of a segmenter on a dataset, whose videos several processes share.

    Args:
      segmenter: of a model that takes queries.
      dataset: of annotated videos.
      styles, categories, shuffle_expressions: which expressions, see
        `vseg_jax.input_pipeline.samples.ReferringSamples`.
      at_once: how many expressions of a video are predicted together.
      save: folder for `<video>/<expression>/<frame>.png`, index masks of every frame (expressions
        are numbered from 0 in their record), and `scores.json`; written atomically, in place of an
        earlier evaluation.
      progress: whether to show a progress bar.

    Returns:
      `protocol`; `DavisMetric.result()`, where `sequences` is {video: {expression: scores}}; `by`:
      {"style" or "category": {value: {"J&F", "J", "F", "expressions"}}} where the dataset has
      these; and from `Clock`, `frames_per_second` (masks per second) and `seconds_per_frame` (the
      median time of one mask), None where no video has more than two frames.

    Raises:
      ValueError: no expression is left, a video has no annotated frame, a frame or an expression
        cannot be read, `save` is another folder or several processes would share it. The message
        names the video.
    """
    pairs = _select(dataset, styles, categories, shuffle_expressions)
    metric, clock = DavisMetric(PROTOCOL), runner.Clock()
    mine = [i for i in runner.shard(len(dataset)) if pairs[i]]
    total = sum(dataset.index[i].length * len(pairs[i]) for i in mine)
    with runner.start(dataset.name, total, "masks", save=save, progress=progress) as run:
        for i in mine:
            record, where = dataset[i], f"{dataset.name} video {dataset.index[i].video_id}"
            for k in range(0, len(pairs[i]), at_once):
                scored, queries = zip(*pairs[i][k:k + at_once], strict=True)
                for frame, masks in predictions(segmenter, record, queries, where, clock):
                    _score(metric, record, frame, scored, masks, where)
                    if run.folder:
                        _save(run.folder / record.video_id, frame, scored, masks)
                    run.bar.update(len(masks))
        result = {"protocol": PROTOCOL, **gather_scores(
            metric, clock, [entry for entry, p in zip(dataset.index, pairs, strict=True) if p])}
        del result["seconds_to_start"]   # a delayed prediction has no start of its own
        if by := _group_means(result, dataset.index):
            result["by"] = by
        run.write(result)
    return result


def predict_videos(
    segmenter: Segmenter, dataset: Dataset, *, progress: bool = True
) -> Iterator[tuple[str, Iterator[tuple[int, Bool[np.ndarray, "H W"]]]]]:
    """Yields "<video>/<expression>" and (frame number, mask) for every expression of a dataset.

    Args:
      segmenter, dataset: see `evaluate`; the dataset needs no ground truth.
      progress: whether to show a progress bar.
    """
    def masks(record: Record, number: int) -> Iterator[tuple[int, np.ndarray]]:
        query, where = record.expressions[number].text, f"{dataset.name} video {record.video_id}"
        for frame, [mask] in predictions(segmenter, record, [query], where):
            yield frame, mask
            bar.update()

    total = sum(entry.length * len(entry.expressions) for entry in dataset.index)
    with runner.progress_bar(dataset.name, total, "masks", progress) as bar:
        for i, entry in enumerate(dataset.index):
            record = dataset[i]
            for number in range(len(entry.expressions)):
                yield f"{entry.video_id}/{number}", masks(record, number)


def predictions(
    segmenter: Segmenter, record: Record, queries: Sequence[str], where: str,
    clock: runner.Clock | None = None,
) -> Iterator[tuple[int, list[Bool[np.ndarray, "H W"]]]]:
    """Yields each frame's number and the mask of each query's object, in order.

    If a model predicts several objects, the one with the highest score in that frame counts. Its
    mask holds the pixels with a probability above one half.

    Args:
      segmenter: see `evaluate`.
      record: the video.
      queries: one per stream.
      where: the video, for error messages.
      clock: gets the time of each prediction, except those that remain after the last frame.

    Raises:
      ValueError: a frame cannot be decoded, a query has no word.
    """
    clock = clock or runner.Clock()
    session = None
    for t, data in enumerate(record.frames):
        images = [decode_image(data, f"{where} frame {t}")] * len(queries)
        started = time.perf_counter()
        try:
            if session is None:
                session = segmenter.start_many(images, queries)
                found = session.first or ()
            elif record.flow and reads_flow(segmenter.model):   # the flow of the training
                if not record.flow[t - 1]:
                    raise ValueError("no flow leads to it; this evaluation needs the flow of all "
                                     "frames: vseg flow without --around")
                flow = decode_flow(record.flow[t - 1], f"the flow to {where} frame {t}")
                found = session.step(images, flow=[flow] * len(queries))
            else:
                found = session.step(images)
        except ValueError as error:
            raise ValueError(f"{where} frame {t}: {error}") from error
        if t > 1:   # the first two frames compile programs
            clock.frames += [(time.perf_counter() - started) / len(queries)] * len(queries)
        yield from _masks(found)
    for found in session.finish() if session else ():
        yield from _masks(found)


def _masks(found: Sequence[Segmentation | None]) -> Iterator[tuple[int, list[np.ndarray]]]:
    if found and found[0] is not None:
        yield found[0].frame, [s.probability[int(s.scores.argmax())] > 0.5
                               for s in found if s is not None]


def check(dataset: Dataset, styles: tuple[str, ...] = (), categories: tuple[str, ...] = (),
          shuffle_expressions: bool = False) -> None:
    """Raises the ValueError with which `evaluate` would refuse the dataset."""
    _select(dataset, styles, categories, shuffle_expressions)


def _select(dataset: Dataset, styles: tuple[str, ...], categories: tuple[str, ...],
            shuffle: bool) -> list[Pairs]:
    """Returns the expressions of each video that are evaluated."""
    index = dataset.index
    pairs = [[(named, index[source].expressions[read].text) for named, source, read in found]
             for found in expression_pairs(index, styles, categories, shuffle)]
    for entry, selected in zip(index, pairs, strict=True):
        if selected and not entry.annotated:
            raise ValueError(f"{dataset.name} video {entry.video_id} has expressions but no "
                             "annotated frame; it cannot be scored")
    if not any(pairs):
        raise ValueError(
            f"{dataset.name} has no expression with styles {styles or 'any'}, categories "
            f"{categories or 'any'}, shuffle_expressions={shuffle} and a known object; for a test "
            "set, vseg_jax.submission writes what its server takes"
        )
    return pairs


def _score(metric: DavisMetric, record: Record, frame: int, scored: Sequence[int],
           masks: Sequence[np.ndarray], where: str) -> None:
    if record.masks[frame]:
        truth = decode_mask(record.masks[frame], f"{where} frame {frame}")
        for number, mask in zip(scored, masks, strict=True):
            object_id = record.expressions[number].object_id
            metric.add_object(record.video_id, number, mask, truth == object_id)


def _save(folder: Path, frame: int, scored: Sequence[int], masks: Sequence[np.ndarray]) -> None:
    for number, mask in zip(scored, masks, strict=True):
        (folder / str(number)).mkdir(parents=True, exist_ok=True)
        overlay.save_index(folder / str(number) / f"{frame:05d}.png", mask.astype(np.uint8))


def _group_means(
    result: dict[str, Any], index: Sequence[IndexEntry]
) -> dict[str, dict[str, Any]]:
    """Returns the means over the expressions of each style and of each category."""
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {"style": {}, "category": {}}
    for entry in index:
        category = {o.id: o.category for o in entry.objects}
        for number, scores in result["sequences"].get(entry.video_id, {}).items():
            expression = entry.expressions[int(number)]
            for kind, value in (("style", expression.style),
                                ("category", category[expression.object_id])):
                if value:
                    groups[kind].setdefault(value, []).append(scores)
    return {
        kind: {
            value: {
                "J&F": float(np.mean([s["J&F"] for s in rows])),
                "J": float(np.mean([s["J"]["mean"] for s in rows])),
                "F": float(np.mean([s["F"]["mean"] for s in rows])), "expressions": len(rows),
            }
            for value, rows in sorted(values.items())
        }
        for kind, values in groups.items() if values
    }
