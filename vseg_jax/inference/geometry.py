"""From the model's input back to the frame's own size."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float


def to_original(
    maps: Float[np.ndarray, "H W"], geometry: Float[np.ndarray, "4"], size: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """Returns a map of the input without its padding, resized bilinearly to `size`.

    Args:
      maps: logits or probabilities over the input.
      geometry: scale y, x and offset y, x of pixel edges: input = original * scale + offset.
      size: (height, width) of the original frame.
    """
    height, width = size
    inner = inside(maps, geometry, size)
    return inner if inner.shape == size else cv2.resize(inner, (width, height))


def all_to_original(
    maps: Float[np.ndarray, "N H W"], geometry: Float[np.ndarray, "4"], size: tuple[int, int]
) -> Float[np.ndarray, "N height width"]:
    """Returns each of N maps as `to_original` does, in float32; N may be 0."""
    out = np.zeros((len(maps), *size), np.float32)
    for k in range(len(maps)):
        out[k] = to_original(maps[k].astype(np.float32), geometry, size)
    return out


def inside(
    maps: Float[np.ndarray, "H W"], geometry: Float[np.ndarray, "4"], size: tuple[int, int]
) -> Float[np.ndarray, "inner_H inner_W"]:
    """Returns the part of a map that shows the frame of `size`; the rest is padding.

    Raises:
      ValueError: the geometry is mirrored or empty.
    """
    scale, offset = np.asarray(geometry[:2], np.float64), np.asarray(geometry[2:], np.float64)
    if (scale <= 0).any():
        raise ValueError(f"geometry {np.asarray(geometry).tolist()} is mirrored or empty; only "
                         "clips without augmentation can be mapped back to their frame")
    # The frame's edges lie on whole input pixels (the size after resizing), up to float32 rounding.
    low = np.clip(np.rint(offset), 0, np.array(maps.shape) - 1).astype(int)
    high = np.clip(np.rint(offset + scale * size), low + 1, maps.shape).astype(int)
    return maps[low[0]:high[0], low[1]:high[1]]


def sigmoid(logits: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Returns 1 / (1 + exp(-logits)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))
