"""The multi-modal video transformer: attention between modalities in a frame, then in time."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from vseg_jax.layers.attention import attention
from vseg_jax.layers.convolution import torch_init


class SelfAttention(nn.Module):
    """Multi-head self-attention without biases.

    Attributes:
      heads, head_width: their product is the width of the projections.
      bug_compat: invalid tokens are attended to with a score of 0. The public code intends to mask
        them but fills in 1e-9 instead of -inf.
      dtype: of the computation.
    """

    heads: int
    head_width: int
    bug_compat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B N C"], valid: Bool[Array, "B N"] | None = None
    ) -> Float[Array, "B N C"]:
        def project(name: str) -> jax.Array:
            out = _dense(self.heads * self.head_width, self.dtype, name, bias=False)(x)
            return out.reshape(*x.shape[:2], self.heads, self.head_width)

        query, key, value = project("query"), project("key"), project("value")
        mask = None
        if valid is not None and self.bug_compat:
            key = jnp.where(valid[..., None, None], key, 0)
        elif valid is not None:
            mask = valid[:, None]
        out = attention(query, key, value, mask=mask).reshape(*x.shape[:2], -1)
        return _dense(x.shape[-1], self.dtype, "out", bias=False)(out)


class Layer(nn.Module):
    """Attention within each frame, attention of the frames' pixels in time, and an MLP."""

    heads: int
    head_width: int
    hidden: int
    dropout: float
    bug_compat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T N C"],
        valid: Bool[Array, "B T N"],
        words: int,
        pixels: int,
        *,
        train: bool,
    ) -> Float[Array, "B T N C"]:
        """Applies the layer; the first `words` tokens are words, the next `pixels` the frame's."""
        batch, frames, count, width = x.shape
        size = self.heads, self.head_width
        # Within one frame: all tokens of all modalities.
        flat = x.reshape(-1, count, width)
        within = SelfAttention(*size, self.bug_compat, self.dtype, name="attention")
        flat = flat + within(_norm(self.dtype, "norm1")(flat), valid.reshape(-1, count))
        # In time: the pixels of all frames of the clip.
        x = flat.reshape(x.shape)
        seen = x[:, :, words : words + pixels].reshape(batch, frames * pixels, width)
        in_time = SelfAttention(*size, dtype=self.dtype, name="temporal")
        seen = seen + in_time(_norm(self.dtype, "norm2")(seen))
        seen = seen.reshape(batch, frames, pixels, width)
        x = jnp.concatenate([x[:, :, :words], seen, x[:, :, words + pixels :]], axis=2)
        inner = _dense(self.hidden, self.dtype, "mlp1")(_norm(self.dtype, "norm3")(x))
        drop = nn.Dropout(self.dropout, deterministic=not train)
        inner = drop(nn.gelu(inner, approximate=False))
        return x + drop(_dense(width, self.dtype, "mlp2")(inner))


class Transformer(nn.Module):
    """A stack of pre-norm layers; positions come only from the coordinates in the features.

    Attributes:
      layers: number of layers.
      heads, head_width, hidden, dropout, bug_compat, dtype: of each layer.
    """

    layers: int
    heads: int
    head_width: int
    hidden: int
    dropout: float
    bug_compat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        words: Float[Array, "B L C"],
        valid: Bool[Array, "B L"],
        vision: Float[Array, "B T H W C"],
        flow: Float[Array, "B T H W C"] | None,
        *,
        train: bool,
    ) -> tuple[
        Float[Array, "B T L C"], Float[Array, "B T H W C"], Float[Array, "B T H W C"] | None
    ]:
        """Mixes words (the same in every frame), pixels of frames, and pixels of flow pictures."""
        batch, frames, height, width, channels = vision.shape
        length, pixels = words.shape[1], height * width
        repeated = jnp.broadcast_to(words[:, None], (batch, frames, length, channels))
        pictures = [p for p in (vision, flow) if p is not None]
        x = jnp.concatenate(
            [repeated, *(p.reshape(batch, frames, pixels, channels) for p in pictures)], axis=2
        )
        present = jnp.broadcast_to(valid[:, None], (batch, frames, length))
        present = jnp.pad(
            present, ((0, 0), (0, 0), (0, x.shape[2] - length)), constant_values=True
        )
        for number in range(self.layers):
            layer = Layer(
                self.heads, self.head_width, self.hidden, self.dropout, self.bug_compat,
                self.dtype, name=f"layer_{number}",
            )
            x = layer(x, present, length, pixels, train=train)
        words, vision, *flow = jnp.split(x, (length, length + pixels)[: len(pictures)], axis=2)
        shape = batch, frames, height, width, channels
        return words, vision.reshape(shape), flow[0].reshape(shape) if flow else None


def _dense(features: int, dtype: DTypeLike, name: str, bias: bool = True) -> nn.Dense:
    return nn.Dense(features, use_bias=bias, dtype=dtype, kernel_init=torch_init, name=name)


def _norm(dtype: DTypeLike, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(1e-5, use_fast_variance=False, dtype=dtype, name=name)
