"""Areas and overlaps of masks in COCO's run-length code, computed without decoding the masks.

A code is {"size": [height, width], "counts": ...}. Its counts are the lengths of alternating runs
of 0 and 1 down the columns, as a list of numbers or as pycocotools' compressed string.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


class Spans:
    """The runs of ones of a code.

    Args:
      code: see the module's docstring.
      size: the height and width that it must have.
      where: what the mask belongs to, for error messages.

    Attributes:
      area: pixels of the mask.

    Raises:
      ValueError: the code cannot be read or has another size.
    """

    def __init__(self, code: Any, size: tuple[int, int], where: str) -> None:
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
        # An empty run comes first, so that every place lies at or after a start.
        self._starts = np.concatenate([[0], starts])
        self._ends = np.concatenate([[0], ends])
        self._before = np.concatenate([[0, 0], np.cumsum(ends - starts)])
        self.area = int(self._before[-1])

    def _below(self, places: np.ndarray) -> np.ndarray:
        """Returns how many ones lie before each place."""
        k = np.searchsorted(self._starts, places, side="right")
        return self._before[k] - np.maximum(self._ends[k - 1] - places, 0)

    def intersection(self, other: Spans) -> int:
        """Returns the number of pixels that both masks have."""
        return int((self._below(other._ends) - self._below(other._starts)).sum())


def _numbers(text: str | bytes) -> np.ndarray:
    """Returns the runs of a compressed string.

    Each character holds 5 bits of a number, lowest bits first. The bit 0x20 marks that more
    characters follow; 0x10 of the last character is the sign. From the fourth number on, the string
    holds the difference to the second-last number.
    """
    data = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)
    bits = data.astype(np.int64) - 48
    last = np.flatnonzero((bits & 0x20) == 0)
    if not len(bits) or bits.min() < 0 or bits.max() > 63 or last[-1:] != len(bits) - 1:
        raise ValueError("the string is empty, truncated or has an invalid character")
    first = np.concatenate([[0], last[:-1] + 1])
    places = np.arange(len(bits)) - np.repeat(first, last - first + 1)
    numbers = np.add.reduceat((bits & 0x1F) << 5 * places, first)
    numbers -= (bits[last] & 0x10) << (5 * (last - first) + 1)
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers
