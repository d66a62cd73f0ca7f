"""Mask propagation through the videos of a dataset, scored video by video.

| protocol | masks given to the model | objects | scores |
|---|---|---|---|
| `davis` | the first annotated frame's | all in one stream | J and F, but for both end frames |
| `youtube_vos` | of each object, where it enters | all in one stream | J and F, after it enters |
| `ovis` | the first annotated frame's | a stream for each | J and F, but for the first frame |

Scores are those of `vseg_jax.metrics.davis`, over the annotated frames at their own size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from vseg_jax.evaluation import adaptation, runner
from vseg_jax.evaluation.region_scores import gather_scores
from vseg_jax.input_pipeline.records import (
    Dataset,
    IndexEntry,
    Record,
    decode_image,
    decode_mask,
)
from vseg_jax.media import overlay
from vseg_jax.metrics.davis import DavisMetric

PROTOCOLS = ("davis", "youtube_vos", "ovis")


@runtime_checkable
class Propagator(Protocol):
    """What can be scored: a `vseg_jax.Segmenter`, or a baseline that starts sessions as it does."""

    def start_many(self, frames: Any, *, masks: Any) -> Any:
        """Returns a session of several streams; see `Segmenter.start_many`."""


def evaluate(
    segmenter: Propagator,
    dataset: Dataset,
    *,
    protocol: str = "davis",
    skip_absent: bool = False,
    at_once: int = 4,
    save: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Returns the scores of a segmenter on a dataset, whose videos several processes share.

    Args:
      segmenter: of a model that takes mask prompts.
      dataset: of annotated videos.
      protocol: see the module's docstring.
      skip_absent: see `DavisMetric`; for `ovis`, whose paper does not say.
      at_once: with `ovis`, how many streams advance together; a video with more objects is run
        several times.
      save: folder for `<video>/<frame>.png` of every frame (`<video>/<id>/<frame>.png` with
        `ovis`), index masks with DAVIS' palette, and `scores.json`; written atomically, in place of
        an earlier evaluation.
      progress: whether to show a progress bar.

    Returns:
      `protocol`; `DavisMetric.result()`; `sample_iou` and `sample_video`, J of each object and the
      number of its video; `adaptation`, see `vseg_jax.evaluation.adaptation.means`; and from
      `Clock`, for all objects of a video together, `frames_per_second` (from each video's third
      frame on), `seconds_per_frame` (their median) and `seconds_to_start` (the median over videos);
      None where there was no such frame.

    Raises:
      ValueError: a video has no object in its first mask or no frame to score, or more objects than
        the model's capacity; `save` is another folder or several processes would share it. The
        message names the video.
    """
    check(dataset, protocol)
    metric, clock = DavisMetric(protocol, skip_absent=skip_absent), runner.Clock()
    adapted: list[adaptation.Row] = []
    work = [(i, streams) for i in runner.shard(len(dataset))
            for streams in _streams(dataset.index[i], protocol, at_once)]
    total = sum(dataset.index[i].length for i, _ in work)
    with runner.start(dataset.name, total, "frames", save=save, progress=progress) as run:
        for i, streams in work:
            record, where = dataset[i], f"{dataset.name} video {dataset.index[i].video_id}"
            prompts = _prompts(dataset.index[i], record, streams, protocol, where)
            for frame, masks in propagate(segmenter, record, prompts, where, clock, adapted):
                for number, mask in zip(streams, masks, strict=True):
                    _score(metric, record, frame, number, mask, where)
                    if run.folder:
                        _save(run.folder / record.video_id, frame, number, mask)
                run.bar.update()
        scores = gather_scores(metric, clock, dataset.index)
        result = {"protocol": protocol, **scores, **_samples(scores["sequences"], dataset.index),
                  "adaptation": adaptation.means(adapted)}
        run.write(result)
    return result


def _samples(sequences: Mapping[str, Any], index: Sequence[IndexEntry]) -> dict[str, list]:
    """Returns J of each object and the number of its video."""
    objects = [(i, found["J"]["mean"]) for i, entry in enumerate(index)
               for found in sequences[entry.video_id].values()]
    return {"sample_iou": [round(j, 5) for _, j in objects],
            "sample_video": [i for i, _ in objects]}


def predict_videos(
    segmenter: Propagator, dataset: Dataset, *, entering: bool, progress: bool = True
) -> Iterator[tuple[str, Iterator[tuple[int, UInt8[np.ndarray, "H W"]]]]]:
    """Yields the id of each video and (frame number, index mask) of its frames.

    Args:
      segmenter, dataset: see `evaluate`; the dataset needs no ground truth but the mask prompts.
      entering: whether masks of later frames add new objects (YouTube-VOS), or only the first
        annotated frame has objects.
      progress: whether to show a progress bar.
    """
    protocol = "youtube_vos" if entering else "davis"

    def masks(i: int) -> Iterator[tuple[int, np.ndarray]]:
        entry, record = dataset.index[i], dataset[i]
        where = f"{dataset.name} video {entry.video_id}"
        prompts = _prompts(entry, record, (0,), protocol, where)
        for frame, [mask] in propagate(segmenter, record, prompts, where):
            yield frame, mask
            bar.update()

    for entry in dataset.index:
        _check(entry, protocol, f"{dataset.name} video {entry.video_id}")
    total = sum(entry.length for entry in dataset.index)
    with runner.progress_bar(dataset.name, total, "frames", progress) as bar:
        for i, entry in enumerate(dataset.index):
            yield entry.video_id, masks(i)


def propagate(
    segmenter: Propagator, record: Record, prompts: dict[int, list[np.ndarray]], where: str,
    clock: runner.Clock | None = None, adapted: list[adaptation.Row] | None = None,
) -> Iterator[tuple[int, list[UInt8[np.ndarray, "H W"]]]]:
    """Yields each frame's number and the index masks of all streams, empty before the first prompt.

    Args:
      segmenter: see `evaluate`.
      record: the video.
      prompts: frame number -> index mask for each stream; all streams start at the first of them.
      where: the video, for error messages.
      clock: gets the time of each prediction.
      adapted: gets `vseg_jax.evaluation.adaptation.rows` of the first frame.

    Raises:
      ValueError: a frame cannot be decoded, or the model cannot take a mask.
    """
    clock = clock or runner.Clock()
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
                if adapted is not None:
                    adapted += adaptation.rows(session.adaptation, prompts[t])
            else:
                predictions = session.step(images, prompts.get(t))
        except ValueError as error:
            raise ValueError(f"{where} frame {t}: {error}") from error
        masks = [prediction.index for prediction in predictions]
        spent += time.perf_counter() - started
        if t > first:
            (clock.starts if t == first + 1 else clock.frames).append(spent)
            spent = 0.0
        yield t, masks


def check(dataset: Dataset, protocol: str) -> None:
    """Raises the ValueError with which `evaluate` would refuse the dataset or the protocol."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}; it must be one of {', '.join(PROTOCOLS)}")
    for entry in dataset.index:
        _check(entry, protocol, f"{dataset.name} video {entry.video_id}", scored=True)


def _check(entry: IndexEntry, protocol: str, where: str, scored: bool = False) -> None:
    entering = _entering(entry)
    if not entering or (protocol != "youtube_vos" and entry.annotated[0] not in entering):
        raise ValueError(f"{where} has no object in its {'masks' if not entering else 'first mask'}"
                         "; the model needs a mask of each object that it propagates")
    if scored and len(entry.annotated) <= sum(DavisMetric(protocol).margins):
        raise ValueError(f"{where} has masks of {len(entry.annotated)} frames, none of which "
                         "counts, so it cannot be scored; for a test set, vseg_jax.submission "
                         "writes what its server takes")


def _entering(entry: IndexEntry) -> dict[int, list[int]]:
    """Returns frame -> ids of the objects that appear in it for the first time."""
    found: dict[int, list[int]] = {}
    for item in entry.objects:
        if item.frames:
            found.setdefault(item.frames[0], []).append(item.id)
    return dict(sorted(found.items()))


def _streams(entry: IndexEntry, protocol: str, at_once: int) -> list[tuple[int, ...]]:
    """Returns groups of streams that advance together; a stream is the id of its only object, or 0
    where it has all objects."""
    if protocol != "ovis":
        return [(0,)]
    ids = _entering(entry)[entry.annotated[0]]
    return [tuple(ids[i:i + at_once]) for i in range(0, len(ids), at_once)]


def _prompts(
    entry: IndexEntry, record: Record, streams: tuple[int, ...], protocol: str, where: str
) -> dict[int, list[np.ndarray]]:
    """Returns frame -> index mask for each stream; an object alone in its stream has the id 1."""
    prompts = {}
    for frame, ids in _entering(entry).items():
        if protocol != "youtube_vos" and frame != entry.annotated[0]:
            continue
        mask = decode_mask(record.masks[frame], f"{where} frame {frame}")
        prompts[frame] = [(mask == number).astype(np.uint8) if number else
                          np.where(np.isin(mask, ids), mask, np.uint8(0)) for number in streams]
    return prompts


def _score(metric: DavisMetric, record: Record, frame: int, number: int, mask: np.ndarray,
           where: str) -> None:
    if not record.masks[frame]:
        return
    truth = decode_mask(record.masks[frame], f"{where} frame {frame}")
    if number:
        metric.add_object(record.video_id, number, mask == 1, truth == number)
    else:
        metric.add(record.video_id, mask, truth)


def _save(folder: Path, frame: int, number: int, mask: np.ndarray) -> None:
    if number:
        folder, mask = folder / str(number), mask * np.uint8(number)
    folder.mkdir(parents=True, exist_ok=True)
    overlay.save_index(folder / f"{frame:05d}.png", mask)
