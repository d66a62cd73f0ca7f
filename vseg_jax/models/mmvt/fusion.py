"""The decoder: frame and flow are fused at three levels, guided by the query."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from vseg_jax.layers.attention import attention
from vseg_jax.layers.coordinates import append_coordinates
from vseg_jax.layers.normalization import BatchNorm
from vseg_jax.layers.residual import ResidualBlock
from vseg_jax.layers.resize import bilinear
from vseg_jax.models.mmvt.config import MmvtConfig
from vseg_jax.models.mmvt.encoders import conv, pointwise


class Fused(NamedTuple):
    """The results of a level: enhanced frame and flow features, and the map for the next level."""

    vision: Float[Array, "B H W C"]
    flow: Float[Array, "B H W C"] | None
    out: Float[Array, "B H W C"]


class Level(nn.Module):
    """One level of the decoder, of the kind `config.lgff`."""

    config: MmvtConfig

    @nn.compact
    def __call__(
        self,
        vision: Float[Array, "B H W V"],
        flow: Float[Array, "B H W F"] | None,
        words: Float[Array, "B L C"],
        valid: Bool[Array, "B L"],
        below: Float[Array, "B h w C"],
    ) -> Fused:
        """Fuses `below`, the map of the coarser level, with the two streams' maps of this level.

        The first word is the sentence embedding.
        """
        c = self.config
        dtype, width = jnp.dtype(c.dtype), c.channels
        if below.shape[1:3] != vision.shape[1:3]:
            below = bilinear(below, vision.shape[1:3], align_corners=False)
        vision = pointwise(vision, width, dtype, "vision")
        if flow is not None:
            flow = pointwise(flow, width, dtype, "flow")
        if c.lgff == "official":
            vision, flow, fused = self._guided(vision, flow, words[:, 0], below)
        else:
            if c.lgff == "dynamic_filter":
                filtered = DynamicFilter(c.filter_size, dtype, name="filter")
                vision = filtered(vision, words, valid)
                streams = [vision if flow is None else vision + flow]
            else:
                streams = [s for s in (vision, flow) if s is not None]
            fused = append_coordinates(jnp.concatenate([*streams, below], axis=-1))
        fused = conv(fused, width, dtype, "fuse")
        return Fused(vision, flow, ResidualBlock(dtype=dtype, name="block")(fused))

    def _guided(
        self, vision: jax.Array, flow: jax.Array | None, sentence: jax.Array, below: jax.Array
    ) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        """Returns v', f', and the input of the level's convolution: [v''; f'']."""
        c = self.config
        dtype, width = jnp.dtype(c.dtype), c.channels
        guide = pointwise(sentence, width, dtype, "sentence")[:, None, None]

        def enhance(x: jax.Array, name: str) -> jax.Array:
            x = append_coordinates(jnp.concatenate([x, below], axis=-1))
            return guide * conv(x, width, dtype, f"{name}_join")

        def gate(x: jax.Array, name: str) -> jax.Array:
            return jax.nn.sigmoid(pointwise(x, 1, dtype, f"{name}_gate"))

        vision = enhance(vision, "vision")
        if flow is None:
            return vision, None, vision
        flow = enhance(flow, "flow")
        of_vision = gate(vision, "vision")
        of_flow = gate(vision if c.bug_compat_gate else flow, "flow")
        # Each stream is gated by the other one.
        both = [vision + of_flow * vision, flow + of_vision * flow]
        return vision, flow, jnp.concatenate(both, axis=-1)


class DynamicFilter(nn.Module):
    """A filter for every pixel and channel, computed from the words that the pixel attends to.

    The summary of the paper computes k * k * d numbers per pixel with "a convolutional layer and an
    attention layer"; that the attention comes first and its result is added is inferred.
    """

    size: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        words: Float[Array, "B L C"],
        valid: Bool[Array, "B L"],
    ) -> Float[Array, "B H W C"]:
        batch, height, width, channels = x.shape
        attended = WordAttention(self.dtype, name="words")(x, words, valid)
        taps = self.size * self.size
        filters = pointwise(x + attended, taps * channels, self.dtype, "filters")
        filters = filters.reshape(batch, height, width, taps, channels)
        reach = self.size // 2
        padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        return sum(
            filters[..., tap, :] * jax.lax.dynamic_slice(
                padded, (0, tap // self.size, tap % self.size, 0), x.shape
            )
            for tap in range(taps)
        )


class WordAttention(nn.Module):
    """Attention of each pixel to the words, with one head."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        words: Float[Array, "B L D"],
        valid: Bool[Array, "B L"],
    ) -> Float[Array, "B H W C"]:
        width = x.shape[-1]
        pixels = x.reshape(x.shape[0], -1, width)
        query = pointwise(pixels, width, self.dtype, "query")
        key, value = (pointwise(words, width, self.dtype, name) for name in ("key", "value"))
        attended = attention(
            query[:, :, None], key[:, :, None], value[:, :, None], mask=valid[:, None]
        )
        return attended.reshape(x.shape)


class CoarseMask(nn.Module):
    """The summary's first stage: a mask from only the coarsest map of the frame and the words.

    The summary names no layers; that a pixel is multiplied by the words that it attends to is
    inferred.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        words: Float[Array, "B L C"],
        valid: Bool[Array, "B L"],
    ) -> Float[Array, "B H W"]:
        attended = WordAttention(self.dtype, name="words")(x, words, valid)
        return pointwise(x * attended, 1, self.dtype, "predict")[..., 0]


class Head(nn.Module):
    """The map of the finest level to one logit per pixel."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B H W"]:
        x = conv(x, x.shape[-1], self.dtype, "conv", bias=False)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
        return pointwise(x, 1, self.dtype, "predict")[..., 0]
