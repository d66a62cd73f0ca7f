"""How well tracks keep their objects: track recall, identity switches and identity preservation.

The average precision of whole tracks shows that something was lost, but not what. In each frame,
tracks are matched to ground-truth objects so that the sum of their IoUs is largest; a pair with an
IoU below 0.5 is not a match. Categories and scores do not matter.

- *Track recall* is the share of the frames in which an object is visible that have a match.
- An *identity switch* is a match to another track than the object's match before it, as CLEAR MOT
  counts them (Bernardin and Stiefelhagen, 2008).
- An *occlusion* is a run of frames in which less than half of the object's largest visible area
  is visible, with frames before and after it in which more is visible. *Identity preservation* is
  the share of occlusions whose last match before and first match after are the same track.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from vseg_jax.run_lengths import Spans

MIN_IOU = 0.5      # of a match
MIN_VISIBLE = 0.5  # share of an object's largest area from which on it is not occluded
COUNTS = ("object_frames", "matched_frames", "identity_switches", "occlusions", "preserved")


class IdentityMetric:
    """Collects videos with `add` and counts them together in `result`.

    Attributes:
      rows: the counts `COUNTS` of each video, ready for JSON.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, int]] = []

    def add(
        self, size: tuple[int, int], truth: Sequence[Mapping[str, Any]],
        predictions: Sequence[Mapping[str, Any]], where: str = "",
    ) -> None:
        """Adds a whole video.

        Args:
          size: height and width of its frames.
          truth: objects with `segmentations`, a run-length code or None for each frame.
          predictions: tracks in the same form.
          where: the video, for error messages.

        Raises:
          ValueError: a code cannot be read or has another size.
        """
        objects, tracks = (_read(rows, size, f"{where}, {name}") for name, rows in
                           (("ground-truth object", truth), ("prediction", predictions)))
        count: dict[str, int] = dict.fromkeys(COUNTS, 0)
        for masks, matches in zip(objects, _match(objects, tracks), strict=True):
            areas = np.array([0 if mask is None else mask.area for mask in masks])
            found = matches[matches >= 0]
            count["object_frames"] += int((areas > 0).sum())
            count["matched_frames"] += len(found)
            count["identity_switches"] += int((found[1:] != found[:-1]).sum())
            for first, last in occlusions(areas):
                before, after = (part[part >= 0] for part in (matches[:first], matches[last:]))
                count["occlusions"] += 1
                count["preserved"] += bool(len(before) and len(after) and before[-1] == after[0])
        self.rows.append(count)

    def add_rows(self, rows: Iterable[Mapping[str, int]]) -> None:
        """Adds the videos of another metric's `rows`."""
        self.rows += [dict(row) for row in rows]

    def result(self) -> dict[str, float]:
        """Returns all numbers over the videos added.

        Returns:
          `track_recall` and `identity_preservation` as fractions, NaN where there is no frame or
          occlusion to count; `identity_switches` and `occlusions`, their numbers.
        """
        sums = {key: sum(row[key] for row in self.rows) for key in COUNTS}
        frames, occluded = sums["object_frames"], sums["occlusions"]
        return {
            "track_recall": sums["matched_frames"] / frames if frames else math.nan,
            "identity_switches": sums["identity_switches"],
            "occlusions": occluded,
            "identity_preservation": sums["preserved"] / occluded if occluded else math.nan,
        }


def occlusions(areas: np.ndarray) -> list[tuple[int, int]]:
    """Returns (first frame, frame after the last) of each occlusion of an object.

    Args:
      areas: [T] visible pixels of the object in each frame; 0 where it is not visible.
    """
    hidden = areas < MIN_VISIBLE * areas.max(initial=0)
    edges = np.flatnonzero(np.diff(hidden)) + 1
    if hidden[:1].any():  # an object that is hidden at first was not visible before
        edges = edges[1:]
    return [(int(a), int(b)) for a, b in zip(edges[0::2], edges[1::2], strict=False)]


def _read(
    rows: Sequence[Mapping[str, Any]], size: tuple[int, int], where: str
) -> list[list[Spans | None]]:
    return [[None if code is None else Spans(code, size, f"{where} {k}, frame {t}")
             for t, code in enumerate(row["segmentations"])] for k, row in enumerate(rows)]


def _match(
    objects: list[list[Spans | None]], tracks: list[list[Spans | None]]
) -> list[np.ndarray]:
    """Returns, for each object, the track that it is matched to in each frame, -1 for none."""
    matches = [np.full(len(masks), -1) for masks in objects]
    for t in range(len(objects[0]) if objects else 0):
        ious = np.array([[_iou(masks[t], track[t]) for track in tracks] for masks in objects])
        ious = np.where(ious >= MIN_IOU, ious, 0).reshape(len(objects), len(tracks))
        for row, column in zip(*linear_sum_assignment(-ious), strict=True):
            if ious[row, column]:
                matches[row][t] = column
    return matches


def _iou(one: Spans | None, other: Spans | None) -> float:
    if one is None or other is None:
        return 0.0
    common = one.intersection(other)
    return common / max(one.area + other.area - common, 1)
