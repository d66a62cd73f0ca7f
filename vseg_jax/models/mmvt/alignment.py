"""The alignment losses: pixels of frame and flow, and the sentence, in one space; training only."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from vseg_jax.layers.resize import bilinear
from vseg_jax.models.mmvt.encoders import pointwise


class Embeddings(NamedTuple):
    """Unit vectors at the finest level's size (stride 4)."""

    vision: Float[Array, "B H W D"]
    flow: Float[Array, "B H W D"] | None
    sentence: Float[Array, "B D"]


class Align(nn.Module):
    """The three levels' enhanced features and the sentence to unit vectors of one space."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        vision: tuple[Float[Array, "B _ _ C"], ...],
        flow: tuple[Float[Array, "B _ _ C"], ...] | None,
        sentence: Float[Array, "B S"],
    ) -> Embeddings:
        """`vision` and `flow` from the coarsest level to the finest; `sentence` as encoded."""

        def together(maps: tuple[jax.Array, ...], name: str) -> jax.Array:
            size, parts = maps[-1].shape[1:3], []
            for number, x in enumerate(maps):
                x = nn.relu(pointwise(x, self.features, self.dtype, f"{name}_{number}"))
                parts.append(bilinear(x, size, align_corners=False))
            joined = jnp.concatenate(parts, axis=-1)
            return unit(pointwise(joined, self.features, self.dtype, f"{name}_join"))

        return Embeddings(
            together(vision, "vision"),
            None if flow is None else together(flow, "flow"),
            unit(pointwise(sentence, self.features, self.dtype, "sentence")),
        )


def unit(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """`x` divided by its length (at least 1e-12); its gradient is finite at 0 too."""
    square = jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32))).sum(-1, keepdims=True)
    return (x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))).astype(x.dtype)


def to_logit(cosine: Float[Array, "*B"], limit: float) -> Float[Array, "*B"]:
    """tan(pi / 2 cos): [-1, 1] to the whole line; cosines beyond +-`limit` count as that."""
    return jnp.tan(jnp.pi / 2 * jnp.clip(cosine, -limit, limit))


def pixels_to_sentence(
    pixels: Float[Array, "B H W D"], sentence: Float[Array, "B D"], limit: float
) -> Float[Array, "B H W"]:
    """The logit that a pixel is what the sentence names."""
    pixels, sentence = _precise(pixels), _precise(sentence)
    return to_logit(jnp.einsum("bhwd,bd->bhw", pixels, sentence), limit)


def pair_loss(
    vision: Float[Array, "B P D"],
    flow: Float[Array, "B P D"],
    foreground: Float[Array, "B P"],
    weight: Float[Array, "B P"],
    *,
    limit: float,
    chunk: int,
) -> Float[Array, " B"]:
    """Binary cross-entropy of all pairs of a frame's pixel and a flow pixel: are they of one side?

    A pair's target is 1 where both pixels are foreground or both are background. Of the P x P
    pairs, `chunk` x P are held at a time, forward and backward.

    Args:
      foreground: 0 or 1.
      weight: 0 or 1; a pair counts where both its pixels do.

    Returns:
      the mean over the pairs that count; 0 where there are none.
    """
    count = vision.shape[1]
    chunk = min(chunk, count)
    pieces = -(-count // chunk)

    def split(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, [(0, 0), (0, pieces * chunk - count)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(x.shape[0], pieces, chunk, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def piece(total: jax.Array, rows: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        pixels, side, counts = rows
        logits = to_logit(jnp.einsum("bpd,bqd->bpq", pixels, _precise(flow)), limit)
        same = side[:, :, None] == foreground[:, None]
        each = -jax.nn.log_sigmoid(jnp.where(same, logits, -logits))
        return total + jnp.einsum("bpq,bp,bq->b", each, counts, weight), None

    rows = split(_precise(vision)), split(foreground), split(weight)
    start = jnp.zeros(vision.shape[0], rows[0].dtype)
    total, _ = jax.lax.scan(piece, start, rows)
    return total / jnp.maximum(jnp.square(weight.sum(1)), 1)


def cosine_loss(
    vision: Float[Array, "B P C"], words: Float[Array, "B L C"], valid: Bool[Array, "B L"]
) -> Float[Array, " B"]:
    """1 - the cosine of the mean pixel and the mean word (the summary adds the cosine itself)."""
    there = valid[..., None]
    word = (words * there).sum(1) / jnp.maximum(there.sum(1), 1)
    pixel = vision.mean(1)
    return 1 - (unit(_precise(pixel)) * unit(_precise(word))).sum(-1)


def symmetric_divergence(
    vision: Float[Array, "B P C"], flow: Float[Array, "B P C"]
) -> Float[Array, " B"]:
    """KL(v || f) + KL(f || v) of the channels' softmax, the mean over pixels (inferred)."""
    v, f = (jax.nn.log_softmax(_precise(x), axis=-1) for x in (vision, flow))
    return ((jnp.exp(v) - jnp.exp(f)) * (v - f)).sum(-1).mean(1)


def _precise(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
