"""Changed copies of the first frame, as the query of the adaptation (ours, not in the paper).

The paper's query is the first frame itself, so every pixel finds itself in the memory, and keys
that match equal pixels only have little left to learn. Later frames show the objects elsewhere and
in other light, and so do these copies.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, UInt8

# The changes, each uniform and by itself; all are inferred.
TURN = 15.0   # largest angle, degrees
SCALE = 1.25  # largest factor on the size, and its inverse the smallest
SHIFT = 0.1   # largest shift, as a share of the frame's sides
GAIN = 0.2    # largest change of a color channel's gain


def changed_copies(
    frame: UInt8[Array, "H W 3"], masks: Float[Array, "N H W"], count: int
) -> tuple[UInt8[Array, "C H W 3"], Float[Array, "1 C H W"], Float[Array, "N C H W"]]:
    """Returns C copies that are turned, scaled, shifted, recolored, and mirrored in half of them.

    A video has the same copies whenever it starts: the changes are drawn with a fixed seed.

    Returns:
      The frames, black beyond the border of the first one; where they show it, in [0, 1]; the
      copied masks.
    """
    planes = jnp.concatenate([
        jnp.moveaxis(frame, -1, 0).astype(jnp.float32), jnp.ones((1, *frame.shape[:2])), masks])

    def copy(key: jax.Array) -> Array:
        turn, size, side, shift, gain = jax.random.split(key, 5)
        warped = warp(
            planes,
            turn=jnp.deg2rad(TURN) * jax.random.uniform(turn, minval=-1),
            scale=SCALE ** jax.random.uniform(size, minval=-1),
            shift=SHIFT * jax.random.uniform(shift, (2,), minval=-1),
            mirrored=jax.random.bernoulli(side),
        )
        return warped.at[:3].multiply(1 + GAIN * jax.random.uniform(gain, (3, 1, 1), minval=-1))

    copies = jax.vmap(copy, out_axes=1)(jax.random.split(jax.random.key(0), count))
    frames = jnp.moveaxis(jnp.clip(jnp.round(copies[:3]), 0, 255), 0, -1).astype(jnp.uint8)
    return frames, copies[3:4], copies[4:]


def warp(
    planes: Float[Array, "L H W"], *, turn: Array, scale: Array, shift: Array, mirrored: Array
) -> Float[Array, "L H W"]:
    """Mirrors, scales, turns and then shifts maps about the frame's center; bilinear, 0 outside.

    Args:
      planes: the maps.
      turn: angle, radians, clockwise on the screen.
      scale: factor on the size.
      shift: [2], down and to the right, as shares of the frame's sides.
      mirrored: whether left and right are exchanged.
    """
    height, width = planes.shape[1:]
    sides = jnp.array([height, width])
    center = (sides - 1) / 2
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    y, x = (c - (center + shift * sides)[k] for k, c in enumerate((y, x)))
    cosine, sine = jnp.cos(turn) / scale, jnp.sin(turn) / scale   # of the inverse map
    y, x = cosine * y - sine * x, cosine * x + sine * y
    source = center[0] + y, center[1] + jnp.where(mirrored, -x, x)
    return jax.vmap(lambda plane: map_coordinates(plane, source, order=1, cval=0.0))(planes)
