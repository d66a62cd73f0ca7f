"""The color of an object, measured from its pixels.

Each color word has two ranges of hue, saturation and value: a pixel in the narrow one clearly has
the color, a pixel outside the wide one clearly has not. Between them, people disagree.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

MOST = 0.45  # smallest share of pixels in the narrow range for which an object has a color
SOME = 0.25  # smallest share of pixels in the wide range for which it may be said to have it
_WIDER = (10.0, 0.13, 0.15)  # by how much a wide range exceeds the narrow one on each side

# Lowest and highest hue in degrees (negative: from the other end of the circle), saturation, value.
RANGES = {
    "black": ((-180, 180), (0.0, 1.0), (0.0, 0.21)),
    "white": ((-180, 180), (0.0, 0.18), (0.72, 1.0)),
    "gray": ((-180, 180), (0.0, 0.14), (0.28, 0.65)),
    "brown": ((7, 40), (0.27, 1.0), (0.21, 0.66)),
    "red": ((-14, 8), (0.55, 1.0), (0.35, 1.0)),
    "orange": ((16, 38), (0.65, 1.0), (0.75, 1.0)),
    "yellow": ((46, 66), (0.45, 1.0), (0.6, 1.0)),
    "green": ((80, 165), (0.25, 1.0), (0.25, 1.0)),
    "blue": ((195, 255), (0.3, 1.0), (0.25, 1.0)),
    "purple": ((268, 300), (0.25, 1.0), (0.25, 1.0)),
    "pink": ((310, 342), (0.25, 1.0), (0.6, 1.0)),
}


@dataclasses.dataclass(frozen=True)
class Colors:
    """What can be said about an object's color.

    Attributes:
      clear: the words that are clearly true.
      possible: the words that some people might use, with the clear ones.
    """

    clear: frozenset[str]
    possible: frozenset[str]


def measure(pixels: np.ndarray) -> Colors:
    """Returns the colors of an object from its pixels uint8 [N, 3] RGB; none without pixels."""
    if not len(pixels):
        return Colors(frozenset(), frozenset())
    hsv = cv2.cvtColor(pixels[None].astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[0]
    clear = {name for name in RANGES if _inside(hsv, name, False).mean() >= MOST}
    possible = {name for name in RANGES if _inside(hsv, name, True).mean() >= SOME}
    return Colors(frozenset(clear), frozenset(possible | clear))


def _inside(hsv: np.ndarray, name: str, wide: bool) -> np.ndarray:
    """Returns bool [N]: which pixels are in a color's range; `hsv` is float [N, 3], hue in 0..360.

    The hue of nearly gray pixels means nothing; the ranges of saturation exclude them.
    """
    found = np.ones(len(hsv), bool)
    for channel, ((low, high), more) in enumerate(zip(RANGES[name], _WIDER, strict=True)):
        low, high = (low - more, high + more) if wide else (low, high)
        values = hsv[:, channel]
        if channel == 0:   # the distance along the circle from the middle of the range
            distance = np.abs((values - (low + high) / 2 + 180) % 360 - 180)
            found &= distance <= (high - low) / 2
        else:
            found &= (low <= values) & (values <= high)
    return found
