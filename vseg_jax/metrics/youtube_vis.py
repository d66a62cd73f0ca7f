"""Average precision and recall of video instance segmentation, as YouTube-VIS computes them.

A predicted and a ground-truth track are compared over all frames together: their IoU is the sum of
the intersections of their masks over the sum of the unions, so that a frame which one of them lacks
adds to the union alone. The predictions of a category and video are matched in order of their
scores, each to the unmatched object with the largest IoU, if this reaches a threshold (0.50, 0.55,
... 0.95). The average precision is the mean of the precision over 101 recalls, the thresholds and
the categories.

Crowds, and objects outside a range of areas, are matched last. They do not count, nor do the
predictions that are matched to them, nor unmatched predictions outside the range. The area of an
object is its mean over the frames that show it.

Checked against youtubevos/cocoapi f3f9948, with two differences: there, an object with the id 0
counts as unmatched, while ids do not matter here; and a score without any object is -1 there and
NaN here. The command scores an annotation file and a result file in their official formats:

    vseg metrics youtube_vis --truth instances.json --predictions results.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import operator
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.arguments import Parser
from vseg_jax.metrics.command import print_scores
from vseg_jax.metrics.track_matching import MOST, Group, curves
from vseg_jax.run_lengths import Spans
from vseg_jax.text_files import read_text

AREAS = {  # pixels; both ends belong to a range
    "all": (0.0, 1e10), "small": (0.0, 128.0**2), "medium": (128.0**2, 256.0**2),
    "large": (256.0**2, 1e10),
}


class YouTubeVISMetric:
    """Collects videos with `add` and scores them together in `result`."""

    def __init__(self) -> None:
        self._groups: dict[Any, list[Group]] = {}

    def add(
        self, video: int | str, size: tuple[int, int], length: int,
        truth: Sequence[Mapping[str, Any]], predictions: Sequence[Mapping[str, Any]],
    ) -> None:
        """Adds a whole video; one without objects or without predictions must be added too.

        Args:
          video: its id; ids are either all numbers or all names.
          size: height and width of its frames.
          length: number of its frames.
          truth: objects as in annotation files: `category_id`, `segmentations` (a run-length code
            or None for each frame), and, optionally, `iscrowd` and `areas` (by default those of the
            codes).
          predictions: objects as in result files: `category_id`, `segmentations`, `score`.

        Raises:
          ValueError: the video was added before, a key is missing, the number of segmentations is
            not `length`, a code has another size, or a score is not a finite number. The message
            names the object.
        """
        if video in self._groups:
            raise ValueError(f"the video {video} was added already")
        read = []
        for name, rows in (("ground-truth object", truth), ("prediction", predictions)):
            found: dict[int, list[tuple[dict[int, Spans], Mapping]]] = {}
            for k, row in enumerate(rows):
                where = f"video {video}, {name} {row.get('id', k)}"
                spans = _spans(row, size, length, where)
                found.setdefault(row["category_id"], []).append((spans, row))
            read.append(found)
        true, ours = read
        self._groups[video] = [_group(video, c, true.get(c, []), ours.get(c, []))
                               for c in sorted(true.keys() | ours.keys())]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All that was added, ready for JSON; `add_rows` is the inverse.

        Videos with neither objects nor predictions are left out: they do not change any score.
        """
        return [dataclasses.asdict(g) for groups in self._groups.values() for g in groups]

    def add_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds the videos of another metric's `rows`."""
        added: dict[Any, list[Group]] = {}
        for row in rows:
            added.setdefault(row["video"], []).append(Group(**row))
        if both := added.keys() & self._groups.keys():
            raise ValueError(f"the video {min(both)} was added already")
        self._groups |= added

    def result(self) -> dict[str, float]:
        """Returns all scores.

        Returns:
          `AP`, `AP50`, `AP75`, `APs`, `APm`, `APl`, `AR1` and `AR10` in [0, 1], NaN where there is
          no object. AR1 and AR10 are the recalls with 1 and 10 predictions of a category and video.
        """
        categories: dict[int, list[Group]] = {}
        for video in sorted(self._groups):  # the order in which equal scores are ranked
            for group in self._groups[video]:
                categories.setdefault(group.category, []).append(group)
        found = {name: [curves(groups, bounds, (MOST,)) for groups in categories.values()]
                  for name, bounds in AREAS.items() if name != "all"}
        found["all"] = [curves(g, AREAS["all"], (1, 10, MOST)) for g in categories.values()]

        def mean(name: str, what: str, most: int, threshold: slice = slice(None)) -> float:
            values = [c[what, most][threshold] for c in found[name] if c]
            return float(np.mean(values)) if values else math.nan

        return {
            "AP": mean("all", "precision", MOST),
            "AP50": mean("all", "precision", MOST, slice(0, 1)),
            "AP75": mean("all", "precision", MOST, slice(5, 6)),
            "APs": mean("small", "precision", MOST),
            "APm": mean("medium", "precision", MOST),
            "APl": mean("large", "precision", MOST),
            "AR1": mean("all", "recall", 1),
            "AR10": mean("all", "recall", 10),
        }


# --- one video --------------------------------------------------------------------------------


def _spans(
    row: Mapping[str, Any], size: tuple[int, int], length: int, where: str
) -> dict[int, Spans]:
    """Returns frame -> mask for the frames that show the object."""
    for key in ("category_id", "segmentations"):
        if key not in row:
            raise ValueError(f"{where} has no '{key}'")
    codes = row["segmentations"]
    if not isinstance(codes, Sequence) or len(codes) != length:
        got = f"{len(codes)} segmentations" if isinstance(codes, Sequence) else f"{codes!r}"
        raise ValueError(f"{where} has {got}; it must have a list with a run-length code or null "
                         f"for each of the video's {length} frames")
    return {t: Spans(code, size, f"{where}, frame {t}") for t, code in enumerate(codes)
            if code is not None}


def track_iou(ours: Mapping[int, Spans], true: Mapping[int, Spans]) -> float:
    """Returns the IoU of two tracks over all frames; 0 where both are empty."""
    common = sum(ours[t].intersection(true[t]) for t in ours.keys() & true.keys())
    union = sum(s.area for track in (ours, true) for s in track.values()) - common
    return common / union if union else 0.0


def _group(video: Any, category: int, true: list, ours: list) -> Group:
    scores = np.array([_score(row, f"video {video}, prediction {row.get('id', k)}")
                       for k, (_, row) in enumerate(ours)])
    ours = [ours[k] for k in np.argsort(-scores, kind="stable")[:MOST]]
    return Group(
        video=video, category=category,
        ious=[[track_iou(spans, other) for other, _ in true] for spans, _ in ours],
        scores=[float(row["score"]) for _, row in ours],
        areas=[_area(s.area for s in spans.values()) for spans, _ in ours],
        true_areas=[_area(_areas(row, f"video {video}, ground-truth object {row.get('id', k)}")
                          or (s.area for s in spans.values()))
                    for k, (spans, row) in enumerate(true)],
        crowds=[bool(row.get("iscrowd", 0)) for _, row in true],
    )


def _score(row: Mapping[str, Any], where: str) -> float:
    score = row.get("score")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
        raise ValueError(f"{where}: the score is {score!r}; it must be a finite number")
    return score


def _areas(row: Mapping[str, Any], where: str) -> list[Any]:
    areas = row.get("areas") or []
    if not isinstance(areas, list) or not all(isinstance(a or 0, (int, float)) for a in areas):
        raise ValueError(f"{where}: the areas are {str(areas)[:60]}; they must be a list with a "
                         "number or null for each frame")
    return areas


def _area(areas: Iterable[Any]) -> float:
    """Returns the mean of the areas that are neither 0 nor None."""
    seen = [a for a in areas if a]
    return float(np.mean(seen)) if seen else 0.0


# --- files ------------------------------------------------------------------------------------


def score_files(
    truth: str | Path, predictions: str | Path, videos: Iterable[str] | None = None
) -> dict[str, float]:
    """Returns the scores of a result file; see `metric_of_files` for arguments and errors."""
    return metric_of_files(truth, predictions, videos).result()


def metric_of_files(
    truth: str | Path, predictions: str | Path, videos: Iterable[str] | None = None
) -> YouTubeVISMetric:
    """Returns the metric of a result file and an annotation file, in their official formats.

    Args:
      truth: annotation file with `videos`, `categories` and `annotations`.
      predictions: result file, a list of {video_id, category_id, score, segmentations}.
      videos: ids or folder names of the videos to score (such as a split drawn from train); None
        scores all.

    Raises:
      ValueError: a file cannot be read or has another format, a result has a category or video that
        the annotation file lacks, or an object cannot be added (see `YouTubeVISMetric.add`). The
        message names file and entry.
    """
    annotation_file, results = _read_json(truth), _read_json(predictions)
    if not isinstance(results, list):
        raise ValueError(f"{predictions} must be a list of results, it is a "
                         f"{type(results).__name__}")
    where = str(truth)
    try:
        categories = {c["id"]: c for c in annotation_file["categories"]}
        sizes: dict[Any, tuple[tuple[int, int], int]] = {}
        names: dict[Any, str] = {}
        for v in annotation_file["videos"]:
            where = f"{truth}, video {v.get('id')}"
            size = operator.index(v["height"]), operator.index(v["width"])
            sizes[v["id"]] = size, len(v["file_names"])
            names[v["id"]] = str(v["file_names"][0]).rpartition("/")[0]
        where, numbers = str(truth), sorted(sizes)
        if annotation_file.get("annotations") is None:
            raise ValueError(f"{truth} has no annotations: a test set without ground truth cannot "
                             "be scored")
        annotations = list(annotation_file["annotations"])
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not in the format of YouTube-VIS annotations: {error!r}"
                         ) from error
    true, ours = (_by_video(path, rows, categories, sizes)
                  for path, rows in ((truth, annotations), (predictions, results)))
    taken = numbers
    if videos is not None:
        wanted = set(videos)
        taken = [k for k in numbers if wanted & {str(k), names[k]}]
        if unknown := wanted - {str(k) for k in taken} - {names[k] for k in taken}:
            raise ValueError(f"{truth} has no video {min(unknown)}")
    metric = YouTubeVISMetric()
    for k in taken:
        metric.add(k, *sizes[k], true.get(k, []), ours.get(k, []))
    return metric


def _by_video(
    path: str | Path, rows: list, categories: Mapping, videos: Mapping
) -> dict[Any, list]:
    found: dict[Any, list] = {}
    for k, row in enumerate(rows):
        where = f"{path}, entry {k}"
        if not isinstance(row, Mapping):
            raise ValueError(f"{where} is {row!r}, not an object")
        for key, known in (("video_id", videos), ("category_id", categories)):
            if not isinstance(row.get(key), Hashable) or row.get(key) not in known:
                listed = ", ".join(map(str, list(known)[:8])) + ", ..." * (len(known) > 8)
                raise ValueError(f"{where}: the {key} is {row.get(key)!r}, which the annotation "
                                 f"file does not list; it has {listed or 'none'}")
        found.setdefault(row["video_id"], []).append(row)
    return found


def _read_json(path: str | Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from None


def main(arguments: Iterable[str] | None = None) -> int:
    """Runs the command of the module's docstring and returns its exit status."""
    parser = Parser(prog="vseg metrics youtube_vis", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", required=True, help="annotation file (instances.json)")
    parser.add_argument("--predictions", required=True, help="results.json")
    parser.add_argument("--videos", help="file with ids or names to score, one per line")
    options = parser.parse_args(None if arguments is None else list(arguments))

    def score_saved() -> dict[str, float]:
        videos = read_text(options.videos).split() if options.videos else None
        return score_files(options.truth, options.predictions, videos)

    return print_scores(score_saved)


if __name__ == "__main__":
    sys.exit(main())
