"""The 8-D spatial coordinate feature that referring models append to visual maps."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def coordinates(height: int, width: int) -> Float[Array, "H W 8"]:
    """Returns the position of each cell of a `height` x `width` map in the image.

    The channels are, in this order: x of the left edge, y of the top edge, x of the right edge, y
    of the bottom edge, x and y of the center (all six in [-1, 1], with the image's edges at -1 and
    1), and the two constants 1/width and 1/height.

    Source: the public code of ACGA, CSTM and MMVT, which agree (docs/parity.md).
    """
    left, right, x_step = _edges(width)
    top, bottom, y_step = _edges(height)
    x = np.stack([left, right, (left + right) / 2], axis=-1)[None].repeat(height, axis=0)
    y = np.stack([top, bottom, (top + bottom) / 2], axis=-1)[:, None].repeat(width, axis=1)
    steps = np.broadcast_to([x_step, y_step], (height, width, 2))
    feature = np.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1], x[..., 2], y[..., 2]], axis=-1)
    return jnp.asarray(np.concatenate([feature, steps], axis=-1), jnp.float32)


def append_coordinates(x: Float[Array, "*B H W C"]) -> Float[Array, "*B H W D"]:
    """Appends the eight coordinate channels to those of `x` (D = C + 8)."""
    feature = coordinates(x.shape[-3], x.shape[-2]).astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(feature, (*x.shape[:-1], 8))], axis=-1)


def _edges(count: int) -> tuple[np.ndarray, np.ndarray, float]:
    index = np.arange(count, dtype=np.float64)
    return index / count * 2 - 1, (index + 1) / count * 2 - 1, 1 / count
