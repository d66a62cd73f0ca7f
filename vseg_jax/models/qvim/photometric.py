"""Changes of color and sharpness, with which RobustNet separates style from content.

The color jitter is torchvision's on floats in [0, 1], followed by a Gaussian blur. The strengths
are those of github.com/shachoi/RobustNet (datasets/__init__.py). Used by robustnet.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

STRENGTH, HUE = 0.8, 0.3  # factors between 1 - STRENGTH and 1 + STRENGTH; hue turns up to HUE
SIGMA = (0.15, 1.3)  # pixels
_RADIUS = int(4 * SIGMA[1] + 0.5)  # the blur is cut off after four deviations, as in SciPy
_GRAY = (0.2989, 0.587, 0.114)


def photometric(
    frames: UInt8[Array, "B T H W 3"], key: jax.Array
) -> UInt8[Array, "B T H W 3"]:
    """Changes color and sharpness of every clip, of all its frames by the same amount.

    The order of the four changes of color is drawn once per batch (the public code draws it once
    per picture).
    """
    count = frames.shape[0]
    keys = jax.random.split(key, 4)
    factors = jax.random.uniform(keys[0], (3, count), minval=1 - STRENGTH, maxval=1 + STRENGTH)
    turns = jax.random.uniform(keys[1], (count,), minval=-HUE, maxval=HUE)
    sigma = jax.random.uniform(keys[2], (count,), minval=SIGMA[0], maxval=SIGMA[1])
    order = jax.random.permutation(keys[3], 4)
    changes = [
        lambda x: brightness(x, factors[0]), lambda x: contrast(x, factors[1]),
        lambda x: saturation(x, factors[2]), lambda x: hue(x, turns),
    ]
    x = frames.astype(jnp.float32) / 255
    x = jax.lax.fori_loop(0, 4, lambda i, x: jax.lax.switch(order[i], changes, x), x)
    return jnp.round(255 * blur(x, sigma)).astype(jnp.uint8)


def brightness(
    x: Float[Array, "B T H W 3"], factor: Float[Array, " B"]
) -> Float[Array, "B T H W 3"]:
    """Changes the brightness: a factor of 1 changes nothing, 0 gives black."""
    return _mixed(x, jnp.zeros_like(x), factor)


def contrast(
    x: Float[Array, "B T H W 3"], factor: Float[Array, " B"]
) -> Float[Array, "B T H W 3"]:
    """Changes the contrast: a factor of 1 changes nothing, 0 gives each frame's mean gray."""
    return _mixed(x, _gray(x).mean((2, 3, 4), keepdims=True), factor)


def saturation(
    x: Float[Array, "B T H W 3"], factor: Float[Array, " B"]
) -> Float[Array, "B T H W 3"]:
    """Changes the saturation: a factor of 1 changes nothing, 0 gives gray frames."""
    return _mixed(x, _gray(x), factor)


def hue(x: Float[Array, "B T H W 3"], turn: Float[Array, " B"]) -> Float[Array, "B T H W 3"]:
    """Turns the color wheel by a fraction of a whole turn; positive: red to green to blue."""
    value, least = x.max(-1), x.min(-1)
    chroma = value - least
    safe = jnp.where(chroma > 0, chroma, 1)
    r, g, b = jnp.moveaxis(x, -1, 0)
    sixths = jnp.where(
        value == r, (g - b) / safe, jnp.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe)
    )
    sixths = sixths + 6 * _over_clips(turn, sixths)

    def channel(offset: int) -> Array:
        distance = (offset + sixths) % 6
        return value - chroma * jnp.clip(jnp.minimum(distance, 4 - distance), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def blur(x: Float[Array, "B T H W 3"], sigma: Float[Array, " B"]) -> Float[Array, "B T H W 3"]:
    """Applies a Gaussian blur of `sigma` pixels, cut off after four deviations; edges repeat."""
    offsets = jnp.arange(-_RADIUS, _RADIUS + 1)
    taps = jnp.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    taps = jnp.where(jnp.abs(offsets) <= jnp.floor(4 * sigma[:, None] + 0.5), taps, 0)
    taps /= taps.sum(1, keepdims=True)
    for axis in (2, 3):
        widths = [(_RADIUS, _RADIUS) if a == axis else (0, 0) for a in range(x.ndim)]
        padded, size = jnp.pad(x, widths, mode="edge"), x.shape[axis]
        x = sum(
            _over_clips(taps[:, i], x) * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
            for i in range(2 * _RADIUS + 1)
        )
    return x


def _mixed(x: Array, other: Array, factor: Array) -> Array:
    share = _over_clips(factor, x)
    return jnp.clip(share * x + (1 - share) * other, 0, 1)


def _gray(x: Array) -> Array:
    return (x * jnp.asarray(_GRAY)).sum(-1, keepdims=True)


def _over_clips(numbers: Array, x: Array) -> Array:
    return numbers.reshape(-1, *[1] * (x.ndim - 1))
