"""Sentences answered over whole videos, and scored by the J and F of what they name.

A sentence names one object, which is followed over its whole video; J and F of all annotated frames
count, also of those that do not show the object (there an empty answer is right). Numbers are means
over a sentence's frames, then over all sentences, as the server of Refer-YouTube-VOS has it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool
from tqdm import tqdm

from vseg_jax.atomic import atomic_folder
from vseg_jax.evaluation.propagation import TABLE, Clock, gathered
from vseg_jax.input_pipeline.records import (
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


def evaluate(
    segmenter: Any,
    dataset: Any,
    *,
    styles: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    shuffle_expressions: bool = False,
    at_once: int = 4,
    save: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """The scores of a segmenter on a dataset. Several processes share its videos.

    Args:
      segmenter: a `vseg_jax.inference.segmenter.Segmenter` of a model of sentences.
      dataset: an `vseg_jax.input_pipeline.records.Dataset` of annotated videos.
      styles, categories, shuffle_expressions: which sentences, see
        `vseg_jax.input_pipeline.samples.ReferringSamples`.
      at_once: sentences of a video that are answered together.
      save: folder for `<video>/<sentence>/<frame>.png`, index masks of every frame (sentences
        count from 0 in their record), and `scores.json`; whole or not at all, and in place of an
        earlier one.
      progress: whether a bar is shown.

    Returns:
      `protocol`; `DavisMetric.result()`, where `sequences` is {video: {sentence: scores}}; `by`:
      {"style" or "category": {value: {"J&F", "J", "F", "sentences"}}} where the dataset says these;
      and of `Clock` `frames_per_second`, answers a second, and `seconds_per_frame`, the median of
      an answer alone (None where no video has more than two frames).

    Raises:
      ValueError: no sentence is left, a video without an annotated frame, a frame or sentence that
        cannot be read, `save` is another folder or several processes would share it; names the
        video.
    """
    if save and jax.process_count() > 1:
        raise ValueError("masks are saved by one process only; evaluate them on one machine")
    pairs = [_pairs(entry, styles, categories, shuffle_expressions, dataset.name)
             for entry in dataset.index]
    if not any(pairs):
        raise ValueError(
            f"{dataset.name} has no sentence with styles {styles or 'any'}, categories "
            f"{categories or 'any'}, shuffle_expressions={shuffle_expressions} whose object is told; "
            "vseg_jax.submission.index_pngs writes what the server of a test set takes"
        )
    metric, clock = DavisMetric(PROTOCOL), Clock()
    mine = [i for i in range(jax.process_index(), len(dataset), jax.process_count()) if pairs[i]]
    bar = tqdm(total=sum(dataset.index[i].length * len(pairs[i]) for i in mine), unit=" answers",
               desc=f"evaluate {dataset.name}",
               disable=not (progress and jax.process_index() == 0))
    keep = atomic_folder(save, replaces=TABLE) if save else contextlib.nullcontext()
    with bar, keep as folder:
        for i in mine:
            entry, record = dataset.index[i], dataset[i]
            where = f"{dataset.name} video {entry.video_id}"
            for start in range(0, len(pairs[i]), at_once):
                named, read = zip(*pairs[i][start:start + at_once], strict=True)
                queries = [entry.expressions[number].text for number in read]
                for frame, masks in predictions(segmenter, record, queries, where, clock):
                    _score(metric, record, frame, named, masks, where)
                    if folder:
                        _save(folder / entry.video_id, frame, named, masks)
                    bar.update(len(masks))
        scores = gathered(metric, clock, [e for e, p in zip(dataset.index, pairs, strict=True)
                                          if p])
        del scores["seconds_to_start"]   # a late answer's start is no number of its own
        result = {"protocol": PROTOCOL, **scores}
        if by := _by(result, dataset.index):
            result["by"] = by
        if folder:
            (folder / TABLE).write_text(json.dumps(result, indent=1) + "\n")
    return result


def videos(
    segmenter: Any, dataset: Any, *, progress: bool = True
) -> Iterator[tuple[str, Iterator[tuple[int, Bool[np.ndarray, "H W"]]]]]:
    """"<video>/<sentence>", and its frames' numbers and masks, of every sentence of a dataset.

    Args:
      segmenter, dataset: as those of `evaluate`; a truth is not looked at.
    """
    def of(entry: IndexEntry, record: Record, number: int) -> Iterator[tuple[int, np.ndarray]]:
        query, where = entry.expressions[number].text, f"{dataset.name} video {entry.video_id}"
        for frame, [mask] in predictions(segmenter, record, [query], where):
            yield frame, mask
            bar.update()

    with tqdm(total=sum(e.length * len(e.expressions) for e in dataset.index), unit=" answers",
              desc=dataset.name, disable=not progress) as bar:
        for i, entry in enumerate(dataset.index):
            record = dataset[i]
            for number in range(len(entry.expressions)):
                yield f"{entry.video_id}/{number}", of(entry, record, number)


def predictions(
    segmenter: Any, record: Record, queries: Sequence[str], where: str, clock: Clock | None = None
) -> Iterator[tuple[int, list[Bool[np.ndarray, "H W"]]]]:
    """Each frame's number and the mask of each sentence's object, in order.

    Of a model's several objects the one with the highest score in that frame is taken, where it is
    more probable than not.

    Args:
      record: the video.
      where: goes into errors.
      clock: where to write down how long answers take; what is left at the end is not timed.

    Raises:
      ValueError: a frame that cannot be decoded, a sentence without a word.
    """
    clock = clock or Clock()
    session = None
    for t, data in enumerate(record.frames):
        images = [decode_image(data, f"{where} frame {t}")] * len(queries)
        started = time.perf_counter()
        try:
            if session is None:
                session = segmenter.start_many(images, queries)
                found = session.first or ()
            elif record.flow and reads_flow(segmenter.model):   # what the model was trained with
                flow = decode_flow(record.flow[t - 1], f"the flow to {where} frame {t}")
                found = session.step(images, flow=[flow] * len(queries))
            else:
                found = session.step(images)
        except ValueError as error:
            raise ValueError(f"{where} frame {t}: {error}") from error
        if t > 1:   # before that, programs are compiled
            clock.frames += [(time.perf_counter() - started) / len(queries)] * len(queries)
        yield from _masks(found)
    for found in session.finish():
        yield from _masks(found)


def _masks(found: Sequence[Any]) -> Iterator[tuple[int, list[np.ndarray]]]:
    if found and found[0] is not None:
        yield found[0].frame, [a.probability[int(a.scores.argmax())] > 0.5 for a in found]


def _pairs(entry: IndexEntry, styles: tuple[str, ...], categories: tuple[str, ...],
           shuffle: bool, name: str) -> list[tuple[int, int]]:
    pairs = expression_pairs(entry, styles, categories, shuffle)
    if pairs and not entry.annotated:
        raise ValueError(f"{name} video {entry.video_id} has sentences and no annotated frame; "
                         "nothing of it can be scored")
    return pairs


def _score(metric: DavisMetric, record: Record, frame: int, named: Sequence[int],
           masks: Sequence[np.ndarray], where: str) -> None:
    if record.masks[frame]:
        truth = decode_mask(record.masks[frame], f"{where} frame {frame}")
        for number, mask in zip(named, masks, strict=True):
            object_id = record.expressions[number].object_id
            metric.add_object(record.video_id, number, mask, truth == object_id)


def _save(folder: Path, frame: int, named: Sequence[int], masks: Sequence[np.ndarray]) -> None:
    for number, mask in zip(named, masks, strict=True):
        (folder / str(number)).mkdir(parents=True, exist_ok=True)
        overlay.save_index(folder / str(number) / f"{frame:05d}.png", mask.astype(np.uint8))


def _by(result: dict[str, Any], index: Sequence[IndexEntry]) -> dict[str, dict[str, Any]]:
    """Means over the sentences of each style, and over those of each category."""
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
                "F": float(np.mean([s["F"]["mean"] for s in rows])), "sentences": len(rows),
            }
            for value, rows in sorted(values.items())
        }
        for kind, values in groups.items() if values
    }
