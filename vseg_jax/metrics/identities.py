"""Whether tracks keep their objects: switches of identity, and what occlusions do to them.

Average precision of whole tracks says that something was lost, not what. In each frame the tracks
are paired with the true objects such that the overlaps add up to the most, pairs of an IoU below
0.5 being none (categories and scores do not matter). A *switch* is an object that is paired with
another track than the last time, as CLEAR MOT counts them (Bernardin and Stiefelhagen, 2008). An
*occlusion* is a stretch of frames in which less than half of an object is seen of what is seen of
it at the most, with frames in which more is seen before and after; it is *kept* where the object is
paired with the same track the last time before and the next time after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from vseg_jax.metrics.run_lengths import Spans

OVERLAP = 0.5  # least IoU of a pair
SEEN = 0.5     # share of an object's largest area from which it is not occluded


class IdentityMetric:
    """Collects videos, `add` by `add`, and counts them together in `result`."""

    def __init__(self):
        self.rows: list[dict[str, int]] = []  # one a video; JSON

    def add(
        self, size: tuple[int, int], truth: Sequence[Mapping[str, Any]],
        predictions: Sequence[Mapping[str, Any]], where: str = "",
    ) -> None:
        """Takes a whole video.

        Args:
          size: height and width of its frames.
          truth: objects with `segmentations`, a run-length code or None of each frame.
          predictions: tracks, likewise.
          where: of the video, for errors.

        Raises:
          ValueError: a code that cannot be read or is of another size.
        """
        true, ours = (_read(rows, size, f"{where}, {name}") for name, rows in
                      (("true object", truth), ("prediction", predictions)))
        pairs = _pairs(true, ours)
        count = {"seen": 0, "paired": 0, "switches": 0, "occlusions": 0, "kept": 0}
        for masks, tracks in zip(true, pairs, strict=True):
            areas = np.array([0 if mask is None else mask.area for mask in masks])
            found = tracks[tracks >= 0]
            count["seen"] += int((areas > 0).sum())
            count["paired"] += len(found)
            count["switches"] += int((found[1:] != found[:-1]).sum())
            for first, last in occlusions(areas):
                before, after = (part[part >= 0] for part in (tracks[:first], tracks[last:]))
                count["occlusions"] += 1
                count["kept"] += bool(len(before) and len(after) and before[-1] == after[0])
        self.rows.append(count)

    def add_rows(self, rows: Iterable[Mapping[str, int]]) -> None:
        """Adds the videos of another metric's `rows`."""
        self.rows += [dict(row) for row in rows]

    def result(self) -> dict[str, float]:
        """`followed`, the share of objects' frames that are paired; `switches`, their number;
        `occlusions`, their number; `kept`, the share of them that were kept. NaN where there is
        nothing to take a share of."""
        sums = {key: sum(row[key] for row in self.rows)
                for key in ("seen", "paired", "switches", "occlusions", "kept")}
        return {
            "followed": sums["paired"] / sums["seen"] if sums["seen"] else math.nan,
            "switches": sums["switches"],
            "occlusions": sums["occlusions"],
            "kept": sums["kept"] / sums["occlusions"] if sums["occlusions"] else math.nan,
        }


def occlusions(areas: np.ndarray) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of each occlusion of an object.

    Args:
      areas: [T] pixels that are seen of it; 0 where it is not.
    """
    hidden = areas < SEEN * areas.max(initial=0)
    edges = np.flatnonzero(np.diff(hidden)) + 1
    if hidden[:1].any():  # what begins hidden was not seen before
        edges = edges[1:]
    return [(int(a), int(b)) for a, b in zip(edges[0::2], edges[1::2], strict=False)]


def _read(
    rows: Sequence[Mapping[str, Any]], size: tuple[int, int], where: str
) -> list[list[Spans | None]]:
    return [[None if code is None else Spans(code, size, f"{where} {k}, frame {t}")
             for t, code in enumerate(row["segmentations"])] for k, row in enumerate(rows)]


def _pairs(true: list[list[Spans | None]], ours: list[list[Spans | None]]) -> list[np.ndarray]:
    """Of each object the track that it is paired with in each frame, -1 for none."""
    pairs = [np.full(len(masks), -1) for masks in true]
    for t in range(len(true[0]) if true else 0):
        ious = np.array([[_iou(masks[t], track[t]) for track in ours] for masks in true])
        ious = np.where(ious >= OVERLAP, ious, 0).reshape(len(true), len(ours))
        for row, column in zip(*linear_sum_assignment(-ious), strict=True):
            if ious[row, column]:
                pairs[row][t] = column
    return pairs


def _iou(one: Spans | None, other: Spans | None) -> float:
    if one is None or other is None:
        return 0.0
    common = one.intersection(other)
    return common / max(one.area + other.area - common, 1)
