"""Precision and recall of one category: predicted tracks matched to ground-truth tracks.

See `vseg_jax.metrics.youtube_vis` for the rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100  # predictions of a category and video that count: those with the highest scores


@dataclasses.dataclass
class Group:
    """The objects and the predictions of one category in one video; plain lists, for JSON.

    Attributes:
      video: id of the video.
      category: id of the category.
      ious: a row for each prediction, a column for each ground-truth object.
      scores: of the predictions, highest first; at most `MOST`.
      areas: of the predictions, in pixels.
      true_areas: of the ground-truth objects, in pixels.
      crowds: which of the ground-truth objects are crowds.
    """

    video: Any
    category: int
    ious: list[list[float]]
    scores: list[float]
    areas: list[float]
    true_areas: list[float]
    crowds: list[bool]


def curves(
    groups: Sequence[Group], bounds: tuple[float, float], mosts: Sequence[int]
) -> dict[tuple[str, int], Float[np.ndarray, "..."]]:
    """Returns the precision and recall curves of one category for each limit on predictions.

    Args:
      groups: the category's objects and predictions in each video.
      bounds: smallest and largest area of the objects that count, in pixels.
      mosts: the limits: how many predictions of a video count.

    Returns:
      ("precision", most) -> [10 thresholds, 101 recalls] and ("recall", most) -> [10 thresholds];
      empty where no object counts.
    """
    low, high = bounds
    groups_matched, groups_ignored, groups_ranks, groups_scores, objects = [], [], [], [], 0
    for group in groups:
        outside = np.array([not low <= a <= high for a in group.true_areas], bool)
        apart = outside | np.array(group.crowds, bool)
        match = _match(np.array(group.ious).reshape(len(group.scores), len(apart)), apart,
                       np.array(group.crowds, bool))
        far = np.array([not low <= a <= high for a in group.areas], bool)
        groups_matched.append(match >= 0)
        groups_ignored.append(np.where(match >= 0, np.append(apart, False)[match], far))
        groups_ranks.append(np.arange(len(group.scores)))
        groups_scores.append(np.array(group.scores))
        objects += int((~apart).sum())
    if not objects:
        return {}
    matched = np.concatenate(groups_matched, axis=1)
    ignored = np.concatenate(groups_ignored, axis=1)
    ranks, scores = np.concatenate(groups_ranks), np.concatenate(groups_scores)
    found = {}
    for most in mosts:
        kept = np.flatnonzero(ranks < most)
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        hits = np.cumsum(matched[:, kept] & ~ignored[:, kept], axis=1)
        misses = np.cumsum(~matched[:, kept] & ~ignored[:, kept], axis=1)
        recall = hits / objects
        precision = hits / (hits + misses + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        places = [np.searchsorted(row, RECALLS, side="left") for row in recall]
        beyond = np.pad(precision, ((0, 0), (0, 1)))  # recalls that are not reached: 0
        found["precision", most] = np.take_along_axis(beyond, np.stack(places), axis=1)
        found["recall", most] = recall[:, -1] if len(kept) else np.zeros(len(THRESHOLDS))
    return found


def _match(
    ious: Float[np.ndarray, "D G"], apart: Bool[np.ndarray, "G"], crowds: Bool[np.ndarray, "G"]
) -> Int[np.ndarray, "10 D"]:
    """Returns the object that each prediction is matched to at each threshold, -1 for none.

    Args:
      ious: predictions in order of their scores, by objects.
      apart: objects that do not count; a prediction is matched to them only if no other fits.
      crowds: objects that any number of predictions may be matched to.
    """
    found = np.full((len(THRESHOLDS), len(ious)), -1)
    for row, threshold in zip(found, THRESHOLDS, strict=True):
        free = np.ones(len(apart), bool)
        for d, overlaps in enumerate(ious):
            fits = (free | crowds) & (overlaps >= threshold)
            for candidates in (np.flatnonzero(fits & ~apart), np.flatnonzero(fits & apart)):
                if len(candidates):  # the last one of those with equal IoUs
                    row[d] = candidates[::-1][overlaps[candidates[::-1]].argmax()]
                    free[row[d]] = False
                    break
    return found
