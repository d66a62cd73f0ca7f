"""Areas and overlaps of masks in COCO's run-length code, without unpacking a pixel.

A code is {"size": [height, width], "counts": runs of 0 and 1 in turn, down the columns, as a list
of numbers or as pycocotools' compressed string}.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


class Spans:
    """The stretches of ones of a code.

    Args:
      code: see above.
      size: height and width that it should have.
      where: what it is of, for errors.

    Attributes:
      area: pixels.

    Raises:
      ValueError: the code cannot be read, or is of another size.
    """

    def __init__(self, code: Any, size: tuple[int, int], where: str):
        try:
            height, width = map(operator.index, code["size"])
            counts = code["counts"]
            runs = _numbers(counts) if isinstance(counts, (str, bytes)) else np.array(counts, int)
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"the run-length code of {where} cannot be read: {error!r}; wanted is "
                             '{"size": [height, width], "counts": ...}') from error
        if (height, width) != tuple(size):
            raise ValueError(f"the run-length code of {where} is {height}x{width} (height x width),"
                             f" but its video is {size[0]}x{size[1]}; encode the mask at that size")
        if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
            raise ValueError(f"the run-length code of {where} has {runs.sum()} pixels, its size is "
                             f"{height}x{width}; encode the mask again")
        borders = np.cumsum(runs)
        ends = borders[1::2]
        starts = borders[0::2][:len(ends)]
        # A stretch of no length comes first, so that every place lies at or after a start.
        self._starts = np.concatenate([[0], starts])
        self._ends = np.concatenate([[0], ends])
        self._before = np.concatenate([[0, 0], np.cumsum(ends - starts)])
        self.area = int(self._before[-1])

    def _below(self, places: np.ndarray) -> np.ndarray:
        """How many ones lie before each place."""
        k = np.searchsorted(self._starts, places, side="right")
        return self._before[k] - np.maximum(self._ends[k - 1] - places, 0)

    def intersection(self, other: Spans) -> int:
        """Pixels of both masks."""
        return int((self._below(other._ends) - self._below(other._starts)).sum())


def _numbers(text: str | bytes) -> np.ndarray:
    """Runs of a compressed string.

    A number has 5 bits a character, the lowest first; 0x20 says that more follow, 0x10 in the last
    one is the sign. From the fourth number on, the string has what it differs by from the last but
    one.
    """
    data = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)
    bits = data.astype(np.int64) - 48
    last = np.flatnonzero((bits & 0x20) == 0)
    if not len(bits) or bits.min() < 0 or bits.max() > 63 or last[-1:] != len(bits) - 1:
        raise ValueError("the string is empty, cut off or has a character that means nothing")
    first = np.concatenate([[0], last[:-1] + 1])
    places = np.arange(len(bits)) - np.repeat(first, last - first + 1)
    numbers = np.add.reduceat((bits & 0x1F) << 5 * places, first)
    numbers -= (bits[last] & 0x10) << (5 * (last - first) + 1)
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers
