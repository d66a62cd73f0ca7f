"""Masks carried through the videos of a dataset and scored, one video after another.

| protocol | masks that are given | objects | scores |
|---|---|---|---|
| `davis` | that of the first annotated frame | all in one stream | J and F, ends left out |
| `youtube_vos` | each object's where it enters | all in one stream | J and F, after its entry |
| `ovis` | that of the first annotated frame | each in a stream of its own | J and F, after it |

Scores are those of `vseg_jax.metrics.davis`, over annotated frames at their own size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from vseg_jax.atomic import atomic_folder
from vseg_jax.evaluation.hosts import gather
from vseg_jax.input_pipeline.records import IndexEntry, Record, decode_image, decode_mask
from vseg_jax.media import overlay
from vseg_jax.metrics.davis import DavisMetric

PROTOCOLS = ("davis", "youtube_vos", "ovis")
TABLE = "scores.json"
COLUMNS = ("J&F", "J", "J recall", "J decay", "F", "F recall", "F decay", "frames/s")


@dataclasses.dataclass
class Clock:
    """Seconds of the segmenter: of each video's first answers, and of each frame after them.

    Reading, decoding and scoring are not timed. What a start costs is seen when its second frame
    is answered, so the two are one number; it holds the adaptation to the first frame, and the
    compiling where a size is new.
    """

    starts: list[float] = dataclasses.field(default_factory=list)
    frames: list[float] = dataclasses.field(default_factory=list)

    def result(self) -> dict[str, float | None]:
        return {
            "frames_per_second": len(self.frames) / sum(self.frames) if self.frames else None,
            "seconds_per_frame": float(np.median(self.frames)) if self.frames else None,
            "seconds_to_start": float(np.median(self.starts)) if self.starts else None,
        }


def evaluate(
    segmenter: Any,
    dataset: Any,
    *,
    protocol: str = "davis",
    skip_absent: bool = False,
    at_once: int = 4,
    save: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """The scores of a segmenter on a dataset. Several processes share its videos.

    Args:
      segmenter: a `vseg_jax.inference.segmenter.Segmenter` of a model that follows masks.
      dataset: an `vseg_jax.input_pipeline.records.Dataset` of annotated videos.
      protocol: see above.
      skip_absent: see `DavisMetric`; of `ovis`, whose paper does not say.
      at_once: `ovis`: streams that advance together; a video of more objects is run again.
      save: folder for `<video>/<frame>.png` of every frame (`<video>/<id>/<frame>.png` with
        `ovis`), index masks with DAVIS' palette, and `scores.json`; whole or not at all, and in
        place of an earlier one.
      progress: whether a bar is shown.

    Returns:
      `protocol`, `DavisMetric.result()`, and of `Clock`, for all objects of a video together:
      `frames_per_second`, from each video's third frame on, `seconds_per_frame`, their median, and
      `seconds_to_start`, the median over videos (None where there was no such frame).

    Raises:
      ValueError: a video without an object in its first mask or with no frame to score, more
        objects than the model's capacity, `save` is another folder or several processes would
        share it; names the video.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}; it must be one of {', '.join(PROTOCOLS)}")
    if save and jax.process_count() > 1:
        raise ValueError("masks are saved by one process only; evaluate them on one machine")
    for entry in dataset.index:
        _check(entry, protocol, f"{dataset.name} video {entry.video_id}", scored=True)
    metric, clock = DavisMetric(protocol, skip_absent=skip_absent), Clock()
    work = [(i, streams) for i in range(jax.process_index(), len(dataset), jax.process_count())
            for streams in _streams(dataset.index[i], protocol, at_once)]
    bar = tqdm(total=sum(dataset.index[i].length for i, _ in work), unit=" frames",
               desc=f"evaluate {dataset.name}",
               disable=not (progress and jax.process_index() == 0))
    keep = atomic_folder(save, replaces=TABLE) if save else contextlib.nullcontext()
    with bar, keep as folder:
        for i, streams in work:
            entry, record = dataset.index[i], dataset[i]
            where = f"{dataset.name} video {entry.video_id}"
            prompts = _prompts(entry, record, streams, protocol, where)
            for frame, predictions in follow(segmenter, record, prompts, where, clock):
                for number, index in zip(streams, predictions, strict=True):
                    _score(metric, record, frame, number, index, where)
                    if folder:
                        _save(folder / entry.video_id, frame, number, index)
                bar.update()
        result = {"protocol": protocol, **gathered(metric, clock, dataset.index)}
        if folder:
            (folder / TABLE).write_text(json.dumps(result, indent=1) + "\n")
    return result


def videos(
    segmenter: Any, dataset: Any, *, entering: bool, progress: bool = True
) -> Iterator[tuple[str, Iterator[tuple[int, UInt8[np.ndarray, "H W"]]]]]:
    """Each video's id and its frames' numbers and index masks, of datasets without a truth.

    Args:
      segmenter, dataset: as those of `evaluate`.
      entering: whether masks of later frames name new objects (YouTube-VOS), or the first alone.
    """
    protocol = "youtube_vos" if entering else "davis"

    def predictions(i: int) -> Iterator[tuple[int, np.ndarray]]:
        entry, record = dataset.index[i], dataset[i]
        where = f"{dataset.name} video {entry.video_id}"
        prompts = _prompts(entry, record, (0,), protocol, where)
        for frame, [index] in follow(segmenter, record, prompts, where):
            yield frame, index
            bar.update()

    for entry in dataset.index:
        _check(entry, protocol, f"{dataset.name} video {entry.video_id}")
    with tqdm(total=sum(e.length for e in dataset.index), desc=dataset.name, unit=" frames",
              disable=not progress) as bar:
        for i, entry in enumerate(dataset.index):
            yield entry.video_id, predictions(i)


def follow(
    segmenter: Any, record: Record, prompts: dict[int, list[np.ndarray]], where: str,
    clock: Clock | None = None,
) -> Iterator[tuple[int, list[UInt8[np.ndarray, "H W"]]]]:
    """Each frame's number and the index masks of all streams, empty before the first prompt.

    Args:
      record: the video.
      prompts: frame number -> index mask of each stream; streams begin with the first of them.
      where: goes into errors.
      clock: where to write down how long answers take.

    Raises:
      ValueError: a frame that cannot be decoded, a mask that the model cannot take.
    """
    clock = clock or Clock()
    first = min(prompts)
    count = len(prompts[first])
    for t in range(first):
        yield t, [np.zeros((record.height, record.width), np.uint8)] * count
    session, spent = None, 0.0
    for t in range(first, len(record.frames)):
        images = [decode_image(record.frames[t], f"{where} frame {t}")] * count
        started = time.perf_counter()
        try:
            if session is None:
                session = segmenter.start_many(images, masks=prompts[t])
                predictions = session.first
            else:
                predictions = session.step(images, prompts.get(t))
        except ValueError as error:
            raise ValueError(f"{where} frame {t}: {error}") from error
        found = [prediction.index for prediction in predictions]
        spent += time.perf_counter() - started
        if t > first:
            (clock.starts if t == first + 1 else clock.frames).append(spent)
            spent = 0.0
        yield t, found


def report(results: dict[str, dict[str, Any]]) -> None:
    """Prints a table of {dataset: what `evaluate` returned}, scores in percent."""
    width = max((len(name) for name in results), default=0)
    print(" " * width, *(f"{c:>9}" for c in COLUMNS))
    for name, result in results.items():
        scores = [result["J&F"], *(result[letter][key] for letter in "JF"
                                   for key in ("mean", "recall", "decay"))]
        print(f"{name:{width}}", *(f"{100 * value:9.1f}" for value in scores),
              f"{result['frames_per_second'] or 0:9.1f}")


def _check(entry: IndexEntry, protocol: str, where: str, scored: bool = False) -> None:
    entering = _entering(entry)
    if not entering or (protocol != "youtube_vos" and entry.annotated[0] not in entering):
        raise ValueError(f"{where} has no object in its {'masks' if not entering else 'first mask'}"
                         "; that is what names the objects to follow")
    if scored and len(entry.annotated) <= sum(DavisMetric(protocol).margins):
        raise ValueError(f"{where} has masks of {len(entry.annotated)} frames, of which none "
                         "counts: a test set without a truth is not scored; "
                         "vseg_jax.submission.index_pngs writes what its server takes")


def _entering(entry: IndexEntry) -> dict[int, list[int]]:
    """Frame -> ids of the objects that are first seen in it."""
    found: dict[int, list[int]] = {}
    for item in entry.objects:
        if item.frames:
            found.setdefault(item.frames[0], []).append(item.id)
    return dict(sorted(found.items()))


def _streams(entry: IndexEntry, protocol: str, at_once: int) -> list[tuple[int, ...]]:
    """Groups of streams that advance together; a stream is an object's id, or 0 for all of them."""
    if protocol != "ovis":
        return [(0,)]
    ids = _entering(entry)[entry.annotated[0]]
    return [tuple(ids[i:i + at_once]) for i in range(0, len(ids), at_once)]


def _prompts(
    entry: IndexEntry, record: Record, streams: tuple[int, ...], protocol: str, where: str
) -> dict[int, list[np.ndarray]]:
    """Frame -> index mask of each stream; an object alone is object 1."""
    prompts = {}
    for frame, ids in _entering(entry).items():
        if protocol != "youtube_vos" and frame != entry.annotated[0]:
            continue
        mask = decode_mask(record.masks[frame], f"{where} frame {frame}")
        prompts[frame] = [(mask == number).astype(np.uint8) if number else
                          np.where(np.isin(mask, ids), mask, np.uint8(0)) for number in streams]
    return prompts


def _score(metric: DavisMetric, record: Record, frame: int, number: int, index: np.ndarray,
           where: str) -> None:
    if not record.masks[frame]:
        return
    truth = decode_mask(record.masks[frame], f"{where} frame {frame}")
    if number:
        metric.add_object(record.video_id, number, index == 1, truth == number)
    else:
        metric.add(record.video_id, index, truth)


def _save(folder: Path, frame: int, number: int, index: np.ndarray) -> None:
    if number:
        folder, index = folder / str(number), index * np.uint8(number)
    folder.mkdir(parents=True, exist_ok=True)
    overlay.save_index(folder / f"{frame:05d}.png", index)


def gathered(metric: DavisMetric, clock: Clock, index: Sequence[IndexEntry]) -> dict[str, Any]:
    """All processes' scores and times; the videos are those of the index, in its order."""
    parts = gather({"rows": metric.rows, "clock": dataclasses.asdict(clock)})
    rows = {name: video for part in parts for name, video in part["rows"].items()}
    whole = DavisMetric(metric.protocol, skip_absent=metric.skip_absent)
    whole.add_rows({e.video_id: rows[e.video_id] for e in index})
    times = Clock(*([x for part in parts for x in part["clock"][name]]
                    for name in ("starts", "frames")))
    return {**whole.result(), **times.result()}
