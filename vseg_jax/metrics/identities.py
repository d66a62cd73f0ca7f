"""How well tracks keep their objects: HOTA, IDF1, identity switches, identity preservation.

The average precision of whole tracks shows that something was lost, but not what. These numbers
compare the masks of objects and tracks in single frames by their IoU. Categories and scores do not
matter, and empty masks do not count.

- *HOTA* (Luiten et al., IJCV 2021) is the mean over the thresholds 0.05, 0.10, ... 0.95 of
  sqrt(DetA * AssA). In each frame, objects and tracks are matched one to one, with preference for
  pairs that overlap in many frames; pairs with an IoU below the threshold do not match. *DetA* is
  the share of matches among all matches, misses and false positives. *AssA* is the mean over the
  matches of the share of frames with the same match among all frames of its object and its track.
- *IDF1* (Ristani et al., 2016) matches whole tracks to objects one to one; a frame counts if their
  IoU is at least 0.5. It is the F score of the frames that count.
- For the other numbers, a match of the preceding frame continues while its IoU is at least 0.5;
  apart from that, the sum of the IoUs is largest, and pairs below 0.5 do not match. *Track recall*
  is the share of the frames in which an object is visible that have a match. An *identity switch*
  is a match to another track than the object's match before it, as in CLEAR MOT (Bernardin and
  Stiefelhagen, 2008).
- An *occlusion* is a run of frames in which less than half of the object's largest visible area
  is visible, with frames before and after it in which more is visible. *Identity preservation* is
  the share of occlusions whose last match before and first match after are the same track.

All but the last are checked against github.com/JonathonLuiten/TrackEval at 12c8791.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from vseg_jax.run_lengths import Spans

MIN_IOU = 0.5      # of a match
MIN_VISIBLE = 0.5  # share of an object's largest area from which on it is not occluded
LEVELS = np.linspace(0.05, 0.95, 19)  # thresholds of HOTA
EPSILON = 1e-9     # an IoU of exactly a threshold reaches it
COUNTS = ("object_frames", "track_frames", "matched_frames", "same_frames", "identity_switches",
          "occlusions", "preserved")
Pairs = Float[np.ndarray, "T G P"]  # IoU of each object (G) with each track (P) in each frame


class IdentityMetric:
    """Collects videos with `add` and counts them together in `result`.

    Attributes:
      rows: the counts of each video, ready for JSON: `COUNTS`, and for each of `LEVELS` the number
        of matches of HOTA (`hota_matches`) and the sum of their association scores (`hota_same`).
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

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
        frames = len((objects or tracks or [[]])[0])
        areas, shown = (np.array([[mask.area if mask else 0 for mask in masks] for masks in rows],
                                 int).reshape(len(rows), frames) for rows in (objects, tracks))
        ious = np.array([[[_iou(masks[t], track[t]) for track in tracks] for masks in objects]
                         for t in range(frames)]).reshape(frames, len(objects), len(tracks))
        lengths = (areas > 0).sum(1), (shown > 0).sum(1)
        hits, same = hota_counts(ious, *lengths)
        self.rows.append({
            "object_frames": int(lengths[0].sum()), "track_frames": int(lengths[1].sum()),
            "same_frames": same_frames(ious),
            **_continuity(areas, continued(ious, np.asarray(areas.any(0) & shown.any(0)))),
            "hota_matches": hits.tolist(), "hota_same": same.tolist(),
        })

    def add_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds the videos of another metric's `rows`."""
        self.rows += [dict(row) for row in rows]

    def result(self) -> dict[str, float]:
        """Returns all numbers over the videos added.

        Returns:
          `HOTA`, `DetA`, `AssA` (means over the thresholds), `IDF1`, `track_recall` and
          `identity_preservation` as fractions, NaN where there is no mask, object or occlusion to
          count; `identity_switches` and `occlusions`, their numbers.
        """
        sums = {key: sum(row[key] for row in self.rows) for key in COUNTS}
        frames, occluded = sums["object_frames"], sums["occlusions"]
        masks = frames + sums["track_frames"]
        hits, same = (np.sum([row[key] for row in self.rows], axis=0) if self.rows else
                      np.zeros(len(LEVELS)) for key in ("hota_matches", "hota_same"))
        detection = hits / (masks - hits) if masks else np.full(len(LEVELS), math.nan)
        association = same / np.maximum(hits, 1) if masks else detection
        return {
            "HOTA": float(np.sqrt(detection * association).mean()),
            "DetA": float(detection.mean()),
            "AssA": float(association.mean()),
            "IDF1": 2 * sums["same_frames"] / masks if masks else math.nan,
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


def hota_counts(
    ious: Pairs, object_frames: Int[np.ndarray, " G"], track_frames: Int[np.ndarray, " P"]
) -> tuple[Int[np.ndarray, " L"], Float[np.ndarray, " L"]]:
    """Returns, for each of `LEVELS`, the matches of a video and the sum of their associations.

    Args:
      ious: of objects and tracks.
      object_frames: number of frames that show each object.
      track_frames: the same for tracks.
    """
    # How well two tracks fit is the Jaccard index of soft matches: the share that a pair's IoU has
    # in the IoUs of both its members in a frame.
    shares = ious.sum(1, keepdims=True) + ious.sum(2, keepdims=True) - ious
    soft = (ious / np.where(shares > 0, shares, 1)).sum(0)
    total = object_frames[:, None] + track_frames
    fit = soft / np.maximum(total - soft, 1)
    matches = np.zeros((len(LEVELS), *fit.shape), int)
    for overlaps in ious:
        rows, columns = linear_sum_assignment(-fit * overlaps)
        matches[:, rows, columns] += overlaps[rows, columns] >= LEVELS[:, None] - EPSILON
    same = matches * (matches / np.maximum(total - matches, 1))
    return matches.sum((1, 2)), same.sum((1, 2))


def same_frames(ious: Pairs) -> int:
    """Returns the matched frames of a video, each object with at most one track (IDTP of IDF1)."""
    counts = (ious >= MIN_IOU - EPSILON).sum(0)
    return int(counts[linear_sum_assignment(-counts)].sum())


def continued(ious: Pairs, counts: Bool[np.ndarray, " T"]) -> Int[np.ndarray, "G T"]:
    """Returns the track that each object is matched to in each frame, -1 for none.

    Args:
      ious: of objects and tracks.
      counts: frames with both an object and a track. As in TrackEval, a match continues through
        the others.
    """
    matches = np.full((ious.shape[1], len(ious)), -1)
    before = np.full(ious.shape[1], -1)
    for t in np.flatnonzero(counts):
        goes_on = before[:, None] == np.arange(ious.shape[2])
        # A match that continues weighs more than all others of the frame together.
        scores = np.where(ious[t] >= MIN_IOU - EPSILON, ious[t] + len(before) * goes_on, 0)
        rows, columns = linear_sum_assignment(-scores)
        matched = scores[rows, columns] > 0
        matches[rows[matched], t] = columns[matched]
        before = matches[:, t]
    return matches


def _continuity(
    areas: Int[np.ndarray, "G T"], matches: Int[np.ndarray, "G T"]
) -> dict[str, int]:
    count = {"matched_frames": int((matches >= 0).sum()), "identity_switches": 0,
             "occlusions": 0, "preserved": 0}
    for area, row in zip(areas, matches, strict=True):
        found = row[row >= 0]
        count["identity_switches"] += int((found[1:] != found[:-1]).sum())
        for first, last in occlusions(area):
            before, after = (part[part >= 0] for part in (row[:first], row[last:]))
            count["occlusions"] += 1
            count["preserved"] += bool(len(before) and len(after) and before[-1] == after[0])
    return count


def _read(
    rows: Sequence[Mapping[str, Any]], size: tuple[int, int], where: str
) -> list[list[Spans | None]]:
    return [[None if code is None else Spans(code, size, f"{where} {k}, frame {t}")
             for t, code in enumerate(row["segmentations"])] for k, row in enumerate(rows)]


def _iou(one: Spans | None, other: Spans | None) -> float:
    if one is None or other is None:
        return 0.0
    common = one.intersection(other)
    return common / max(one.area + other.area - common, 1)
