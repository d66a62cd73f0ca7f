"""COCO's run-length code of a mask: encode, decode, and compare without unpacking a pixel.

A code is {"size": [height, width], "counts": runs of 0 and 1 in turn, down the columns}. The counts
are a list of numbers or the compressed string that pycocotools writes.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

__all__ = ["Spans", "decode_rle", "encode_rle", "read_runs"]


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Returns the code of a mask, bool [H, W], with compressed counts.

    The string is the one that pycocotools writes.

    Raises:
      ValueError: the mask does not have two axes.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask must be [H, W], got {mask.shape}")
    flat = np.concatenate([[False], mask.T.ravel() > 0])
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), mask.size)
    numbers = np.diff(ends, prepend=0)
    numbers[3:] -= numbers[1:-2].copy()  # stored as the difference to the last but one
    text = []
    for number in numbers.tolist():
        while not -16 <= number < 16:  # 5 bits with the sign
            text.append((number & 0x1F) | 0x20)
            number >>= 5
        text.append(number & 0x1F)
    return {"size": list(mask.shape), "counts": bytes(c + 48 for c in text).decode()}


def decode_rle(code: Any, where: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns the mask of a code, bool [H, W]; arguments and errors as for `read_runs`."""
    (height, width), runs = read_runs(code, where, size)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def read_runs(
    code: Any, where: str, size: tuple[int, int] | None = None
) -> tuple[tuple[int, int], np.ndarray]:
    """Returns (height, width) and the runs int64 [n] of a code.

    Args:
      code: see above.
      where: what the code belongs to, for errors.
      size: (height, width) of its video, where that is known.

    Raises:
      ValueError: the code cannot be read, has another size, or its runs do not fill its size.
    """
    try:
        height, width = map(operator.index, code["size"])
        counts = code["counts"]
        runs = _decompress(counts) if isinstance(counts, (str, bytes)) else np.array(counts, int)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"the run-length code of {where} cannot be read: {error!r}; wanted is "
                         '{"size": [height, width], "counts": ...}') from error
    if size and (height, width) != tuple(size):
        raise ValueError(f"the run-length code of {where} is {height}x{width} (height x width), "
                         f"but its video is {size[0]}x{size[1]}; encode the mask at that size")
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width or height < 0:
        raise ValueError(f"the run-length code of {where} has {runs.sum()} pixels, its size is "
                         f"{height}x{width} (height x width); encode the mask again, or download "
                         "the file again")
    return (height, width), runs


class Spans:
    """The spans of ones of a code, for areas and overlaps.

    Args:
      code: see above.
      size: (height, width) that the code must have.
      where: what the code belongs to, for errors.

    Attributes:
      area: pixels.

    Raises:
      ValueError: as for `read_runs`.
    """

    def __init__(self, code: Any, size: tuple[int, int], where: str):
        _, runs = read_runs(code, where, size)
        borders = np.cumsum(runs)
        ends = borders[1::2]
        starts = borders[0::2][:len(ends)]
        # An empty span comes first, so that every place lies at or after a start.
        self._starts = np.concatenate([[0], starts])
        self._ends = np.concatenate([[0], ends])
        self._before = np.concatenate([[0, 0], np.cumsum(ends - starts)])
        self.area = int(self._before[-1])

    def _below(self, places: np.ndarray) -> np.ndarray:
        """Returns the number of ones before each place."""
        k = np.searchsorted(self._starts, places, side="right")
        return self._before[k] - np.maximum(self._ends[k - 1] - places, 0)

    def intersection(self, other: Spans) -> int:
        """Returns the number of pixels that both masks have."""
        return int((self._below(other._ends) - self._below(other._starts)).sum())


def _decompress(text: str | bytes) -> np.ndarray:
    """Returns the runs that a compressed string holds.

    A number has 5 bits a character, the lowest first. The bit 0x20 marks that more characters
    follow; 0x10 of the last character is the sign. From the fourth number on, the string holds the
    difference to the last number but one.
    """
    data = text.encode() if isinstance(text, str) else text
    bits = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((bits & 0x20) == 0)
    if not len(bits) or (bits < 0).any() or (bits > 63).any() or ends[-1:] != len(bits) - 1:
        raise ValueError("the string is empty, cut off or has an invalid character")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    shifts = 5 * (np.arange(len(bits)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((bits & 0x1F) << shifts, starts)
    numbers -= np.where(bits[ends] & 0x10, 1 << 5 * lengths, 0)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers
