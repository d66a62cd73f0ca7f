"""The alignment losses: frame, flow and sentence embeddings in one space; training only."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from vseg_jax.layers.precision import at_least_float32
from vseg_jax.layers.projection import unit
from vseg_jax.layers.resize import bilinear
from vseg_jax.models.mmvt.encoders import pointwise


class Embeddings(NamedTuple):
    """Unit vectors of pixels, at the size of the finest level (stride 4), and of the sentence."""

    vision: Float[Array, "B H W D"]
    flow: Float[Array, "B H W D"] | None
    sentence: Float[Array, "B D"]


class Align(nn.Module):
    """The enhanced features of three levels, and the sentence, to unit vectors of one space."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        vision: tuple[Float[Array, "B _ _ C"], ...],
        flow: tuple[Float[Array, "B _ _ C"], ...] | None,
        sentence: Float[Array, "B S"],
    ) -> Embeddings:
        """Embeds `vision` and `flow`, coarse to fine, and the encoded `sentence`."""

        def embed(maps: tuple[jax.Array, ...], name: str) -> jax.Array:
            size, parts = maps[-1].shape[1:3], []
            for number, x in enumerate(maps):
                x = nn.relu(pointwise(x, self.features, self.dtype, f"{name}_{number}"))
                parts.append(bilinear(x, size, align_corners=False))
            joined = jnp.concatenate(parts, axis=-1)
            return _unit(pointwise(joined, self.features, self.dtype, f"{name}_join"))

        return Embeddings(
            embed(vision, "vision"),
            None if flow is None else embed(flow, "flow"),
            _unit(pointwise(sentence, self.features, self.dtype, "sentence")),
        )


def to_logit(cosine: Float[Array, "*B"], limit: float) -> Float[Array, "*B"]:
    """Returns tan(pi / 2 cos), from [-1, 1] to the real line, with cosines clipped to +-`limit`."""
    return jnp.tan(jnp.pi / 2 * jnp.clip(cosine, -limit, limit))


def pixels_to_sentence(
    pixels: Float[Array, "B H W D"], sentence: Float[Array, "B D"], limit: float
) -> Float[Array, "B H W"]:
    """Returns the logits that pixels belong to the object that the sentence names."""
    pixels, sentence = at_least_float32(pixels), at_least_float32(sentence)
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
    """Computes the binary cross-entropy of all pairs of a frame pixel and a flow pixel.

    The target of a pair is 1 if both pixels are foreground or both are background. Only `chunk` x P
    of the P x P pairs are in memory at a time, forward and backward.

    Args:
      foreground: 0 or 1.
      weight: 0 or 1; a pair counts if both its pixels do.

    Returns:
      The mean over the pairs that count; 0 if there are none.
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
        logits = to_logit(jnp.einsum("bpd,bqd->bpq", pixels, at_least_float32(flow)), limit)
        same = side[:, :, None] == foreground[:, None]
        each = -jax.nn.log_sigmoid(jnp.where(same, logits, -logits))
        return total + jnp.einsum("bpq,bp,bq->b", each, counts, weight), None

    rows = split(at_least_float32(vision)), split(foreground), split(weight)
    start = jnp.zeros(vision.shape[0], rows[0].dtype)
    total, _ = jax.lax.scan(piece, start, rows)
    return total / jnp.maximum(jnp.square(weight.sum(1)), 1)


def cosine_loss(
    vision: Float[Array, "B P C"], words: Float[Array, "B L C"], valid: Bool[Array, "B L"]
) -> Float[Array, " B"]:
    """Returns 1 - the cosine of mean pixel and mean word (the summary adds the cosine itself)."""
    present = valid[..., None]
    word = (words * present).sum(1) / jnp.maximum(present.sum(1), 1)
    pixel = vision.mean(1)
    return 1 - (_unit(at_least_float32(pixel)) * _unit(at_least_float32(word))).sum(-1)


def symmetric_divergence(
    vision: Float[Array, "B P C"], flow: Float[Array, "B P C"]
) -> Float[Array, " B"]:
    """Returns KL(v || f) + KL(f || v) of the channels' softmax, the mean over pixels (inferred)."""
    v, f = (jax.nn.log_softmax(at_least_float32(x), axis=-1) for x in (vision, flow))
    return ((jnp.exp(v) - jnp.exp(f)) * (v - f)).sum(-1).mean(1)


def _unit(x: Array) -> Array:
    return unit(x, floor=1e-24)
