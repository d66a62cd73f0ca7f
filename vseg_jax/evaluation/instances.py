"""Objects found in the videos of a dataset, each video as a stream, and their average precision.

A video's answer is a list of objects: of each identity the masks of the annotated frames, and the
category and score that the model gives it over all frames. Scores are those of
`vseg_jax.metrics.youtube_vis`, at the frames' own size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from vseg_jax.atomic import atomic_folder
from vseg_jax.evaluation.hosts import gather
from vseg_jax.evaluation.propagation import Clock
from vseg_jax.inference.segmentation import INSTANCES
from vseg_jax.input_pipeline.instances import true_tracks
from vseg_jax.input_pipeline.records import SAMPLE_RATE, Record, decode_audio, decode_image
from vseg_jax.media import audio as media_audio
from vseg_jax.metrics.identities import IdentityMetric
from vseg_jax.metrics.youtube_vis import YouTubeVISMetric
from vseg_jax.run_lengths import encode_rle

TABLE, TRUTH, RESULTS = "scores.json", "instances.json", "results.json"   # what is kept
COLUMNS = ("AP", "AP50", "AP75", "AR1", "AR10", "track_recall", "identity_preservation")


def evaluate(
    segmenter: Any, dataset: Any, *, save: str | Path | None = None, progress: bool = True
) -> dict[str, Any]:
    """The scores of a segmenter on a dataset. Several processes share its videos.

    Args:
      segmenter: a `vseg_jax.inference.segmenter.Segmenter` of a model that finds objects. Objects
        of categories that it does not know are background.
      dataset: an `vseg_jax.input_pipeline.records.Dataset` of annotated videos.
      save: folder for `results.json`, the objects found in the annotated frames, `instances.json`,
        the truth in the form of annotation files (`python -m vseg_jax.metrics.youtube_vis` scores
        the two again), and `scores.json`; whole or not at all, and in place of an earlier one.
      progress: whether a bar is shown.

    Returns:
      `protocol`, `YouTubeVISMetric.result()` and `IdentityMetric.result()` with None for a number
      that no object counts for, and what `propagate.Clock` says of the frames.

    Raises:
      ValueError: no object of a category that the model knows, a video without an annotated frame,
        `save` is another folder or several processes would share it; names the video.
    """
    if save and jax.process_count() > 1:
        raise ValueError("results are saved by one process only; evaluate them on one machine")
    known = set(segmenter.categories)
    if not any(o.category in known for entry in dataset.index for o in entry.objects):
        raise ValueError(f"{dataset.name} has no object of the model's categories "
                         f"({', '.join(segmenter.categories)})")
    for entry in dataset.index:
        if not entry.annotated:
            raise ValueError(f"{dataset.name} video {entry.video_id} has no masks: a test set "
                             "without a truth is not scored")
    metric, identities, clock = YouTubeVISMetric(), IdentityMetric(), Clock()
    numbers = range(jax.process_index(), len(dataset), jax.process_count())
    bar = tqdm(total=sum(dataset.index[i].length for i in numbers), unit=" frames",
               desc=f"evaluate {dataset.name}",
               disable=not (progress and jax.process_index() == 0))
    keep = atomic_folder(save, replaces=TABLE) if save else contextlib.nullcontext()
    scored = []
    with bar, keep as folder:
        for i in numbers:
            record, annotated = dataset[i], dataset.index[i].annotated
            truth = true_tracks(record, segmenter.categories, dataset.name)
            found = find(segmenter, record, annotated, dataset.name, clock, bar)
            for row in found:
                row["category_id"] = segmenter.categories.index(row.pop("category"))
            size = record.height, record.width
            metric.add(record.video_id, size, len(annotated), truth, found)
            identities.add(size, truth, found, f"{dataset.name} video {record.video_id}")
            if folder:
                scored.append((record.video_id, dataset.index[i], truth, found))
        result = {"protocol": INSTANCES, **gathered(metric, identities, clock)}
        if folder:
            _keep(folder, segmenter.categories, scored)
            (folder / TABLE).write_text(json.dumps(result, indent=1) + "\n")
    return result


def find(
    segmenter: Any, record: Record, frames: Any, where: str, clock: Clock | None = None,
    bar: Any = None,
) -> list[dict[str, Any]]:
    """The objects of a video, in order of their identities.

    Args:
      segmenter: see `evaluate`.
      record: the video, and its sound for a model that hears; without any it hears silence.
      frames: numbers of those whose masks are wanted, rising.
      where: dataset, for errors.
      clock: where to write down how long answers take.
      bar: told of each frame.

    Returns:
      Of each object with a mask in one of `frames` its `category` (name), `score`, and
      `segmentations`, for each of `frames` a run-length code at the record's size, or None. An
      object of so long ago that the model's state has lost it is left out.

    Raises:
      ValueError: a frame or sound that cannot be decoded; names it.
    """
    place, clock = {t: k for k, t in enumerate(frames)}, clock or Clock()
    codes: dict[int, list[Any]] = {}
    audio = heard(record, where) if segmenter.uses_audio else None
    session = None
    for t, data in enumerate(record.frames):
        image = decode_image(data, f"{where} video {record.video_id} frame {t}")
        samples = None if audio is None else next(audio)
        started = time.perf_counter()
        if session is None:
            session = segmenter.start(image, audio=samples)
            prediction = session.first
        else:
            prediction = session.step(image, audio=samples)
        (clock.frames if t > 1 else clock.starts).append(time.perf_counter() - started)
        if prediction.frame in place:
            for identity, mask in zip(prediction.ids, prediction.masks, strict=True):
                if mask.any():
                    row = codes.setdefault(identity, [None] * len(place))
                    row[place[prediction.frame]] = encode_rle(mask)
        if bar is not None:
            bar.update()
    return [{"category": track.category, "score": track.score, "segmentations": codes[track.id]}
            for track in session.summary() if track.id in codes]


def videos(
    segmenter: Any, dataset: Any, *, progress: bool = True
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each video's id and `find` of all its frames: what `vseg_jax.submission.results_json.write` takes.
    """
    bar = tqdm(total=sum(entry.length for entry in dataset.index), unit=" frames",
               desc=dataset.name, disable=not progress)
    with bar:
        for i, entry in enumerate(dataset.index):
            record = dataset[i]
            yield entry.video_id, find(segmenter, record, range(len(record.frames)), dataset.name,
                                       bar=bar)


def heard(record: Record, where: str) -> Iterator[np.ndarray] | None:
    """The samples of each frame of a record; None where it has no sound."""
    if not record.audio:
        return None
    samples = decode_audio(record.audio, f"{where} video {record.video_id}")
    # Sound and frames of a record begin and, where no rate is known, end together.
    fps = record.fps or len(record.frames) * SAMPLE_RATE / max(len(samples), 1)
    return media_audio.split_by_frame([samples], fps)


def gathered(
    metric: YouTubeVISMetric, identities: IdentityMetric, clock: Clock
) -> dict[str, Any]:
    """All processes' scores and times."""
    parts = gather({"rows": metric.rows, "identities": identities.rows,
                    "clock": dataclasses.asdict(clock)})
    whole, tracks = YouTubeVISMetric(), IdentityMetric()
    for part in parts:
        whole.add_rows(part["rows"])
        tracks.add_rows(part["identities"])
    times = Clock(*([x for part in parts for x in part["clock"][name]]
                    for name in ("starts", "frames")))
    scores = {**whole.result(), **tracks.result()}
    return {**{k: None if math.isnan(v) else v for k, v in scores.items()}, **times.result()}


def report(results: dict[str, dict[str, Any]]) -> None:
    """Prints a table of {dataset: what `evaluate` returned}, scores in percent."""
    width = max((len(name) for name in results), default=0)
    print(" " * width, *(f"{c:>9}" for c in (*COLUMNS, "frames/s")))
    for name, result in results.items():
        scores = [f"{'-' if result[c] is None else format(100 * result[c], '.1f'):>9}"
                  for c in COLUMNS]
        print(f"{name:{width}}", *scores, f"{result['frames_per_second'] or 0:9.1f}")


def _keep(folder: Path, categories: tuple[str, ...], scored: list[Any]) -> None:
    """Truth and answers of the annotated frames; numbers of videos and categories are from 1."""
    said: dict[str, list[Any]] = {
        "videos": [], "annotations": [],
        "categories": [{"id": k, "name": name} for k, name in enumerate(categories, 1)],
    }
    results = []
    for number, (name, entry, truth, found) in enumerate(scored, 1):
        said["videos"].append({
            "id": number, "height": entry.height, "width": entry.width,
            "file_names": [f"{name}/{t:05d}.jpg" for t in entry.annotated],
        })
        for rows, out in ((truth, said["annotations"]), (found, results)):
            out += [{**row, "video_id": number, "category_id": row["category_id"] + 1}
                    for row in rows]
    for k, row in enumerate(said["annotations"], 1):
        row.update(id=k, iscrowd=0)
    (folder / TRUTH).write_text(json.dumps(said) + "\n")
    (folder / RESULTS).write_text(json.dumps(results) + "\n")
