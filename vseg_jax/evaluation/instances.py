"""Video instance segmentation of a dataset: each video as a stream, scored by average precision.

The prediction for a video is a list of objects: for each identity, its masks in the annotated
frames, and the category and score that the model gives it over all frames. Scores are those of
`vseg_jax.metrics.youtube_vis` and `vseg_jax.metrics.identities`, at the frames' own size.

A dataset whose objects have no categories, such as DAVIS, gets only the scores that need none. If
it leaves objects without a mask, as DAVIS does, what is found of these counts as wrong; all scores
but `best_track_iou` and the recalls are then lower bounds.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vseg_jax.evaluation import runner
from vseg_jax.inference.segmentation import INSTANCES
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.instances import true_tracks
from vseg_jax.input_pipeline.records import (
    SAMPLE_RATE,
    Dataset,
    IndexEntry,
    Record,
    decode_audio,
    decode_image,
)
from vseg_jax.media import audio as media_audio
from vseg_jax.metrics.command import without_nan
from vseg_jax.metrics.identities import IdentityMetric
from vseg_jax.metrics.youtube_vis import YouTubeVISMetric
from vseg_jax.run_lengths import encode_rle

TRUTH, RESULTS = "instances.json", "results.json"   # files of a saved evaluation
# By which a checkpoint can be chosen.
SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "class_agnostic_AP",
          "class_agnostic_AP50", "class_agnostic_AR10", "best_track_iou", "HOTA", "DetA", "AssA",
          "IDF1", "track_recall", "identity_preservation")
COLUMNS = ("AP", "AP50", "AP75", "AR1", "AR10", "class_agnostic_AP50", "best_track_iou", "HOTA",
           "IDF1", "track_recall", "identity_preservation")
ANY = ("object",)   # the categories of a saved evaluation of a dataset that has none
Objects = list[dict[str, Any]]


def evaluate(
    segmenter: Segmenter, dataset: Dataset, *, save: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Returns the scores of a segmenter on a dataset, whose videos several processes share.

    Args:
      segmenter: of a model that finds objects. Objects of categories that the model does not know
        are background, unless no object has a category.
      dataset: of annotated videos.
      save: folder for `results.json`, the objects found in the annotated frames, `instances.json`,
        the ground truth in the format of annotation files (`vseg metrics youtube_vis`
        scores the two again), and `scores.json`; written atomically, in place of an earlier
        evaluation.
      progress: whether to show a progress bar.

    Returns:
      `protocol`; `YouTubeVISMetric.result()`, and its `AP`, `AP50` and `AR10` as
      `class_agnostic_AP` and so on, where all objects and predictions have the same category;
      `best_track_iou`, the mean over the objects of the largest IoU of a track with them, over all
      frames together, and `videos`, the same by the id of the video;
      `IdentityMetric.result()`; with None for a score that no object counts for; and
      `Clock.result()`.

    Raises:
      ValueError: there is no object of a category that the model knows, a video has no annotated
        frame, `save` is another folder or several processes would share it. The message names the
        video.
    """
    check(segmenter.categories, dataset)
    categories = segmenter.categories if _has_categories(dataset) else ()
    metric, agnostic = YouTubeVISMetric(), YouTubeVISMetric()
    identities, clock = IdentityMetric(), runner.Clock()
    mine = runner.shard(len(dataset))
    total = sum(dataset.index[i].length for i in mine)
    scored = []
    with runner.start(dataset.name, total, "frames", save=save, progress=progress) as run:
        for i in mine:
            record, annotated = dataset[i], dataset.index[i].annotated
            truth = true_tracks(record, categories, dataset.name)
            found = find_objects(segmenter, record, annotated, dataset.name, clock, run.bar)
            for row in found:
                name = row.pop("category")
                row["category_id"] = categories.index(name) if categories else 0
            size = record.height, record.width
            if categories:
                metric.add(record.video_id, size, len(annotated), truth, found)
            agnostic.add(record.video_id, size, len(annotated), _one_class(truth),
                         _one_class(found))
            identities.add(size, truth, found, f"{dataset.name} video {record.video_id}")
            if run.folder:
                scored.append((dataset.index[i], truth, found))
        result = {"protocol": INSTANCES, **_gather_scores(metric, agnostic, identities, clock)}
        if run.folder:
            _save(run.folder, categories or ANY, scored)
        run.write(result)
    return result


def predict_videos(
    segmenter: Segmenter, dataset: Dataset, *, progress: bool = True
) -> Iterator[tuple[str, Objects]]:
    """Yields the id of each video and `find_objects` of all its frames, for `vseg_jax.submission`.

    Args:
      segmenter, dataset: see `evaluate`; the dataset needs no ground truth.
      progress: whether to show a progress bar.
    """
    total = sum(entry.length for entry in dataset.index)
    with runner.progress_bar(dataset.name, total, "frames", progress) as bar:
        for i, entry in enumerate(dataset.index):
            record = dataset[i]
            yield entry.video_id, find_objects(
                segmenter, record, range(len(record.frames)), dataset.name, bar=bar)


def find_objects(
    segmenter: Segmenter, record: Record, frames: Sequence[int], where: str,
    clock: runner.Clock | None = None, bar: tqdm | None = None,
) -> Objects:
    """Returns the objects of a video, in the order of their identities.

    Args:
      segmenter: see `evaluate`.
      record: the video, with its audio for a model that uses audio (silence where it has none).
      frames: numbers of the frames whose masks are returned, rising.
      where: the dataset, for error messages.
      clock: gets the time of each prediction.
      bar: advances with each frame.

    Returns:
      For each object with a mask in any of `frames`: its `category` (name), `score`, and
      `segmentations`, for each of `frames` a run-length code at the record's size or None. Objects
      last seen so long ago that the model's state has dropped them are left out.

    Raises:
      ValueError: a frame or the audio cannot be decoded. The message names it.
    """
    place, clock = {t: k for k, t in enumerate(frames)}, clock or runner.Clock()
    codes: dict[int, list[Any]] = {}
    audio = frame_audio(record, where) if segmenter.uses_audio else None
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
            for track in (session.summary() if session else ()) if track.id in codes]


def frame_audio(record: Record, where: str) -> Iterator[np.ndarray] | None:
    """Returns an iterator over the audio samples of each frame; None where a record has no audio.

    Args:
      record: the video.
      where: the dataset, for error messages.
    """
    if not record.audio:
        return None
    samples = decode_audio(record.audio, f"{where} video {record.video_id}")
    # Audio and frames begin together and, where the frame rate is unknown, end together.
    fps = record.fps or len(record.frames) * SAMPLE_RATE / max(len(samples), 1)
    return media_audio.split_by_frame([samples], fps)


def report(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints a table of {dataset: scores of `evaluate`}, in percent."""
    runner.print_table([*COLUMNS, "frames/s"], {
        name: [*(None if result[c] is None else 100 * result[c] for c in COLUMNS),
               result["frames_per_second"]]
        for name, result in results.items()
    })


def check(categories: Sequence[str], dataset: Dataset) -> None:
    """Raises the ValueError with which `evaluate` would refuse the dataset.

    Args:
      categories: that the model knows.
      dataset: of annotated videos.
    """
    known = set(categories) if _has_categories(dataset) else {""}
    if not any(o.category in known for entry in dataset.index for o in entry.objects):
        raise ValueError(f"{dataset.name} has no object of the model's categories "
                         f"({', '.join(categories)})")
    for entry in dataset.index:
        if not entry.annotated:
            raise ValueError(f"{dataset.name} video {entry.video_id} has no masks and cannot be "
                             "scored; for a test set, vseg_jax.submission writes what its server "
                             "takes")


def _has_categories(dataset: Dataset) -> bool:
    return any(o.category for entry in dataset.index for o in entry.objects)


def _one_class(objects: Objects) -> Objects:
    return [{**row, "category_id": 0} for row in objects]


def _gather_scores(
    metric: YouTubeVISMetric, agnostic: YouTubeVISMetric, identities: IdentityMetric,
    clock: runner.Clock,
) -> dict[str, Any]:
    """Returns the scores and times of all processes."""
    together, any_class, tracks = YouTubeVISMetric(), YouTubeVISMetric(), IdentityMetric()
    for part in runner.gather({"rows": metric.rows, "agnostic": agnostic.rows,
                               "identities": identities.rows}):
        together.add_rows(part["rows"])
        any_class.add_rows(part["agnostic"])
        tracks.add_rows(part["identities"])
    found = any_class.result()
    best = _best_tracks(any_class)
    scores = {**together.result(),
              **{f"class_agnostic_{name}": found[name] for name in ("AP", "AP50", "AR10")},
              "best_track_iou": float(np.concatenate([*best.values()]).mean()) if best else
              math.nan,
              **tracks.result()}
    videos = {name: {"best_track_iou": float(np.mean(each))} for name, each in best.items()}
    return {**without_nan(scores), "videos": videos, **clock.gather().result()}


def _best_tracks(metric: YouTubeVISMetric) -> dict[str, list[float]]:
    """Returns the largest IoU of a track with each object of each video that has objects."""
    return {row["video"]: np.max([[0.0] * len(row["crowds"]), *row["ious"]], axis=0).tolist()
            for row in sorted(metric.rows, key=lambda row: row["video"]) if row["crowds"]}


def _save(folder: Path, categories: tuple[str, ...],
          scored: list[tuple[IndexEntry, Objects, Objects]]) -> None:
    """Writes ground truth and predictions of the annotated frames; videos and categories are
    numbered from 1."""
    annotations: dict[str, list[Any]] = {
        "videos": [], "annotations": [],
        "categories": [{"id": k, "name": name} for k, name in enumerate(categories, 1)],
    }
    results: Objects = []
    for number, (entry, truth, found) in enumerate(scored, 1):
        annotations["videos"].append({
            "id": number, "height": entry.height, "width": entry.width,
            "file_names": [f"{entry.video_id}/{t:05d}.jpg" for t in entry.annotated],
        })
        for rows, out in ((truth, annotations["annotations"]), (found, results)):
            out += [{**row, "video_id": number, "category_id": row["category_id"] + 1}
                    for row in rows]
    for k, row in enumerate(annotations["annotations"], 1):
        row.update(id=k, iscrowd=0)
    (folder / TRUTH).write_text(json.dumps(annotations) + "\n")
    (folder / RESULTS).write_text(json.dumps(results) + "\n")
