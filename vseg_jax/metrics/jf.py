"""Region similarity J and boundary accuracy F of one object in one frame (Perazzi et al. 2016).

Checked against davisvideochallenge/davis2017-evaluation ac7c43f, `davis2017/metrics.py`.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

BOUND = 0.008   # tolerance of F, as a share of the frame's diagonal


def jaccard(prediction: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> float:
    """Returns the intersection over union; 1 where both masks are empty."""
    union = np.count_nonzero(prediction | truth)
    return np.count_nonzero(prediction & truth) / union if union else 1.0


def boundary_f(
    prediction: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"], bound: int | None = None
) -> float:
    """Returns F of the outlines, the harmonic mean of their precision and recall.

    Precision and recall are the shares of each outline that lie within `bound` pixels of the other.

    Args:
      prediction: the predicted mask of an object.
      truth: its ground-truth mask.
      bound: pixels; None is 0.8 % of the frame's diagonal, rounded up.
    """
    if bound is None:
        bound = boundary_tolerance(truth.shape)
    ours, theirs = boundary(prediction), boundary(truth)
    n_ours, n_theirs = np.count_nonzero(ours), np.count_nonzero(theirs)
    if not (n_ours and n_theirs):
        return float(n_ours == n_theirs)   # one of precision and recall is 0, or both are 1
    disk = _disk(bound)
    precision = np.count_nonzero(ours & cv2.dilate(theirs, disk)) / n_ours
    recall = np.count_nonzero(theirs & cv2.dilate(ours, disk)) / n_theirs
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def boundary_tolerance(shape: tuple[int, ...]) -> int:
    """Returns by how many pixels outlines in a frame of shape [H, W] may lie apart."""
    return int(np.ceil(BOUND * np.linalg.norm(shape)))


def boundary(mask: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Returns the outline of a mask, as Martin's seg2bmap draws it.

    It is 1 where a pixel differs from its right, lower or lower right neighbor. In the last row,
    only the right neighbor counts; in the last column, only the lower one.
    """
    edge = np.zeros(mask.shape, bool)
    edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge.astype(np.uint8)


@functools.cache
def _disk(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def score(
    prediction: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]
) -> tuple[float, float]:
    """Returns J and F of one object in one frame."""
    x, y, width, height = cv2.boundingRect((prediction | truth).view(np.uint8))
    if not width:
        return 1.0, 1.0
    # Both masks lie inside this window; outlines reach one pixel beyond the masks.
    window = np.s_[max(y - 1, 0):y + height + 1, max(x - 1, 0):x + width + 1]
    bound = boundary_tolerance(truth.shape)
    prediction, truth = prediction[window], truth[window]
    return jaccard(prediction, truth), boundary_f(prediction, truth, bound)
