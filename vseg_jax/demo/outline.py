"""The mask of an object from clicks or a box, by OpenCV's GrabCut.

GrabCut separates the colors of an object from those of its surroundings. The picture is scaled down
for it, because it should take no longer than a user likes to wait.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

Number = float | int
Point = tuple[Number, Number]   # x, y in pixels

_SIDE = 320   # the longer side of what GrabCut sees, pixels
_ROUNDS = 4
_SMALLEST = 4   # sides of a box at that size, pixels
_LEAST = 0.2   # of a box, that an object fills
_FEWEST = 10   # pixels of the object, and of the rest, that GrabCut needs
# Around clicks, in shorter sides of the picture: what is the object, what probably is, and what is
# looked at. The best of a few values on first frames of DAVIS.
_SURE, _PROBABLE, _WINDOW = 0.03, 0.15, 0.45
_OUT, _IN, _MAYBE_OUT, _MAYBE_IN = cv2.GC_BGD, cv2.GC_FGD, cv2.GC_PR_BGD, cv2.GC_PR_FGD


def outline(
    frame: UInt8[np.ndarray, "H W 3"], *, box: Sequence[Number] | None = None,
    start: Bool[np.ndarray, "H W"] | None = None,
    inside: Sequence[Point] = (), outside: Sequence[Point] = (),
) -> Bool[np.ndarray, "H W"]:
    """Returns the mask of the object in a box, or at clicks, or of a mask that clicks refine.

    Args:
      frame: RGB.
      box: (left, top, right, bottom) in pixels, around the object.
      start: a mask that is mostly right.
      inside: (x, y) of clicks on the object, in pixels.
      outside: of clicks beside it.

    Raises:
      ValueError: the box is too small, or there is neither a box, a mask nor a click on the object.
    """
    height, width = frame.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    ratio = np.array(size) / (width, height)
    on, beside = (np.array(points, float).reshape(-1, 2) * ratio for points in (inside, outside))
    if box is not None:
        found = _boxed(small, np.array(box, float) * np.tile(ratio, 2))
    elif start is not None:
        added = _clicked(small, on, beside)
        before = cv2.resize(start.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
        taken = _clicked(small, beside, on, within=before | added)
        return (start | _enlarged(added, frame)) & ~_enlarged(taken, frame)
    elif len(on):
        found = _clicked(small, on, beside)
    else:
        raise ValueError("give a box, a mask, or a click on the object")
    return _enlarged(found, frame)


def _enlarged(
    small: Bool[np.ndarray, "h w"], frame: UInt8[np.ndarray, "H W 3"]
) -> Bool[np.ndarray, "H W"]:
    """Returns a mask at the size of the frame, with smooth edges."""
    large = cv2.resize(small.astype(np.float32), frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return large > 0.5


def _boxed(
    picture: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, "4"]
) -> Bool[np.ndarray, "h w"]:
    """Returns the object in a box: outside is none of it, and it should fill some of the box.

    Where the first try finds almost nothing, the middle of the box is taken for sure.
    """
    size = picture.shape[1], picture.shape[0]
    left, top, right, bottom = np.clip(np.rint(box), 0, np.tile(size, 2)).astype(int).tolist()
    width, height = right - left, bottom - top
    if min(width, height) < _SMALLEST:
        raise ValueError("the box is too small; drag it from one corner of the object to the "
                         "opposite one")
    labels = np.full(size[::-1], _OUT, np.uint8)
    labels[top:bottom, left:right] = _MAYBE_IN
    found = _connected(_cut(picture, labels))
    if found.sum() >= _LEAST * width * height:
        return found
    cv2.ellipse(labels, ((left + right) // 2, (top + bottom) // 2),
                (max(1, width // 8), max(1, height // 8)), 0, 0, 360, _IN, -1)
    return _connected(_cut(picture, labels))


def _clicked(
    picture: UInt8[np.ndarray, "h w 3"], on: Float[np.ndarray, "n 2"],
    beside: Float[np.ndarray, "m 2"], within: Bool[np.ndarray, "h w"] | None = None,
) -> Bool[np.ndarray, "h w"]:
    """Returns what is under clicks: the connected parts of it, near them.

    Args:
      picture: for GrabCut.
      on: places on it.
      beside: places on something else.
      within: a mask that it is a part of.
    """
    if not len(on):
        return np.zeros(picture.shape[:2], bool)
    size = picture.shape[1], picture.shape[0]
    short = min(size)
    labels = np.full(size[::-1], _OUT, np.uint8)
    labels[_near(size, on, _WINDOW * short) if within is None else within] = _MAYBE_OUT
    labels[_near(size, on, _PROBABLE * short)] = _MAYBE_IN
    if within is not None:
        labels[~within] = _OUT
    labels[_near(size, beside, _SURE * short)] = _OUT
    seeds = _near(size, on, _SURE * short)
    labels[seeds] = _IN
    return _connected(_cut(picture, labels), seeds)


def _near(
    size: tuple[int, int], points: Float[np.ndarray, "n 2"], radius: float
) -> Bool[np.ndarray, "h w"]:
    """Returns where a point is at most `radius` pixels away."""
    found = np.zeros(size[::-1], np.uint8)
    for x, y in np.rint(points).astype(int).tolist():
        cv2.circle(found, (x, y), max(1, round(radius)), 1, -1)
    return found > 0


def _cut(picture: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"]) -> np.ndarray:
    """Returns what GrabCut makes of labels, bool [h, w]; where it finds nothing, the guess."""
    guess = (labels & 1).astype(bool)
    if min(guess.sum(), (~guess).sum()) < _FEWEST:
        return guess
    cv2.setRNGSeed(0)   # the same clicks give the same mask
    cut = labels.copy()
    cv2.grabCut(picture, cut, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS,
                cv2.GC_INIT_WITH_MASK)   # which makes no use of the box
    found = (cut & 1).astype(bool)
    return found if found.any() else guess


def _connected(
    mask: Bool[np.ndarray, "h w"], seeds: Bool[np.ndarray, "h w"] | None = None
) -> Bool[np.ndarray, "h w"]:
    """Returns the parts of a mask that have a seed; without seeds, all but the small parts."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    if seeds is not None:
        kept = np.unique(parts[seeds & mask])
    else:
        kept = np.flatnonzero(areas >= 0.1 * max(areas[1:], default=0))
    return np.isin(parts, [part for part in kept if part])
