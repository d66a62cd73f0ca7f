"""RAFT's operations without parameters: all-pairs correlations, lookup, convex upsampling.

See raft.py for the source; section numbers are the paper's.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

LEVELS = 4  # of the correlation pyramid
STRIDE = 8  # of the features


def correlation_pyramid(
    features1: Float[Array, "B h w C"], features2: Float[Array, "B i j C"]
) -> tuple[Float[Array, "B h w _ _"], ...]:
    """Computes products of all positions of two maps, and averages them to coarser levels (3.2).

    The second map is pooled before the product instead of the volume after it: both are linear.
    """
    volumes, scale = [], features1.shape[-1] ** -0.5
    for _ in range(LEVELS):
        volumes.append(scale * jnp.einsum(
            "bhwc,bijc->bhwij", features1, features2, precision="highest"
        ))
        b, h, w, c = features2.shape
        even = features2[:, : h // 2 * 2, : w // 2 * 2]  # an odd last row or column is dropped
        features2 = even.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    return tuple(volumes)


def lookup(
    pyramid: tuple[Float[Array, "B h w _ _"], ...], centers: Float[Array, "B h w 2"], radius: int
) -> Float[Array, "B h w D"]:
    """Samples the correlations around each center bilinearly, with zeros outside of the map (3.2).

    All taps of a window lie at the same fraction between two positions, so the window of
    (2 radius + 2)^2 positions is gathered once and then interpolated along x and along y. Gathering
    reads nothing else of the volume: at 480x848 on a CPU it takes a third of the time of products
    with matrices of bilinear weights (benchmarks/raft.py times the network).

    Args:
      pyramid: from `correlation_pyramid`.
      centers: (x, y) in the finest map.
      radius: of the window, in positions of each level.

    Returns:
      Channels by level, then x offset, then y offset (the public code's order).
    """
    found = []
    for level, volume in enumerate(pyramid):
        *batch, height, width = volume.shape
        if height == 0 or width == 0:  # nothing remains at this level
            found.append(jnp.zeros((*batch, (2 * radius + 1) ** 2), volume.dtype))
            continue
        x, in_x, share_x = _window(centers[..., 0] / 2**level, radius, width)
        y, in_y, share_y = _window(centers[..., 1] / 2**level, radius, height)
        places = y[..., None, :] * width + x[..., :, None]  # [B, h, w, x, y]
        taps = jnp.take_along_axis(
            volume.reshape(*batch, height * width), places.reshape(*batch, -1), axis=-1,
            mode="promise_in_bounds",
        ).reshape(places.shape) * (in_y[..., None, :] & in_x[..., :, None])
        share_x, share_y = share_x[..., None, None], share_y[..., None, None]
        taps = taps[..., :-1, :] * (1 - share_x) + taps[..., 1:, :] * share_x
        taps = taps[..., :-1] * (1 - share_y) + taps[..., 1:] * share_y
        found.append(taps.reshape(*batch, -1))
    return jnp.concatenate(found, axis=-1)


def positions(flow: Float[Array, "B h w 2"]) -> Float[Array, "B h w 2"]:
    """Returns the positions (x, y) to which the flow moves those of the first map."""
    y, x = jnp.meshgrid(*(jnp.arange(n, dtype=flow.dtype) for n in flow.shape[1:3]), indexing="ij")
    return jnp.stack([x, y], axis=-1) + flow


def convex_upsampling(
    flow: Float[Array, "B h w 2"], mask: Float[Array, "B h w M"]
) -> Float[Array, "B H W 2"]:
    """Upsamples to the mean of the 3x3 coarse neighbors, weighted by softmax (3.3).

    Args:
      flow: at stride 8, in pixels of its own size.
      mask: logits; channel (3 dy + dx) * 64 + 8 row + column is the weight of neighbor (dy, dx) for
        one of the 8x8 positions. Neighbors outside of the map have no motion.
    """
    b, h, w, _ = flow.shape
    weights = nn.softmax(mask.reshape(b, h, w, 9, STRIDE, STRIDE), axis=3)
    padded = jnp.pad(STRIDE * flow, [(0, 0), (1, 1), (1, 1), (0, 0)])
    around = jnp.stack([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], 3)
    fine = jnp.einsum("bhwkij,bhwkc->bhiwjc", weights, around, precision="highest")
    return fine.reshape(b, STRIDE * h, STRIDE * w, 2)


def _window(center: Array, radius: int, size: int) -> tuple[Array, Array, Array]:
    """Returns the window along one axis; a center far outside of the map finds nothing.

    Returns:
      places: positions from floor(center) - radius on, clipped to the map.
      inside: which of them are in the map.
      share: how far the center is beyond its floor.
    """
    center = jnp.clip(center, -radius - 2, size + radius + 1)
    low = jnp.floor(center)
    places = low[..., None].astype(jnp.int32) + jnp.arange(-radius, radius + 2)
    inside = (places >= 0) & (places < size)
    return jnp.clip(places, 0, size - 1), inside, center - low
