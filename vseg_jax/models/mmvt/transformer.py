"""The multi-modal video transformer: attention between modalities in a frame, then in time."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from vseg_jax.layers.attention import attention
from vseg_jax.layers.convolution import torch_init


class Attention(nn.Module):
    """Multi-head attention without biases, to the tokens themselves or to others.

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
        self,
        x: Float[Array, "B N C"],
        valid: Bool[Array, "B M"] | None = None,
        others: Float[Array, "B M C"] | None = None,
    ) -> Float[Array, "B N C"]:
        """Attends to `others`, or else to `x` (M is N), as far as they are `valid`."""
        def project(tokens: jax.Array, name: str) -> jax.Array:
            out = _dense(self.heads * self.head_width, self.dtype, name, bias=False)(tokens)
            return out.reshape(*tokens.shape[:2], self.heads, self.head_width)

        source = x if others is None else others
        query, key, value = project(x, "query"), project(source, "key"), project(source, "value")
        mask = None
        if valid is not None and self.bug_compat:
            key = jnp.where(valid[..., None, None], key, 0)
        elif valid is not None:
            mask = valid[:, None]
        out = attention(query, key, value, mask=mask).reshape(*x.shape[:2], -1)
        return _dense(x.shape[-1], self.dtype, "out", bias=False)(out)


class _Sizes(nn.Module):
    """The attributes of a layer."""

    heads: int
    head_width: int
    hidden: int
    dropout: float
    bug_compat: bool = False
    dtype: DTypeLike = jnp.float32


class Layer(_Sizes):
    """Attention within each frame, attention of the frames' pixels in time, and an MLP."""

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
        within = Attention(*size, self.bug_compat, self.dtype, name="attention")
        flat = flat + within(_norm(self.dtype, "norm1")(flat), valid.reshape(-1, count))
        # In time: the pixels of all frames of the clip.
        x = flat.reshape(x.shape)
        seen = x[:, :, words : words + pixels].reshape(batch, frames * pixels, width)
        in_time = Attention(*size, dtype=self.dtype, name="temporal")
        seen = seen + in_time(_norm(self.dtype, "norm2")(seen))
        seen = seen.reshape(batch, frames, pixels, width)
        x = jnp.concatenate([x[:, :, :words], seen, x[:, :, words + pixels :]], axis=2)
        return x + _mlp(_norm(self.dtype, "norm3")(x), self, train=train)


class PlainLayer(_Sizes):
    """Attention of tokens to each other, to `others` where there are any, and an MLP."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B N C"],
        valid: Bool[Array, "B N"] | None = None,
        others: Float[Array, "B M C"] | None = None,
        others_valid: Bool[Array, "B M"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "B N C"]:
        def attend(name: str) -> Attention:
            return Attention(self.heads, self.head_width, self.bug_compat, self.dtype, name=name)

        x = x + attend("attention")(_norm(self.dtype, "norm1")(x), valid)
        if others is not None:
            x = x + attend("cross")(_norm(self.dtype, "norm2")(x), others_valid, others)
        return x + _mlp(_norm(self.dtype, "norm3")(x), self, train=train)


class Mixed(NamedTuple):
    """The tokens of a clip after the transformer; without one, its inputs.

    Attributes:
      words: of the words in each frame (Zl in the paper's summary).
      encoded: of the frames' pixels, with which the alignment compares the words (Za).
      vision, flow: of the pixels of frames and flow pictures, which it compares (Ta and Tm).
      out: of the target frame's pixels, which the decoder of the mask refines.
    """

    words: Float[Array, "B T L C"]
    encoded: Float[Array, "B T H W C"]
    vision: Float[Array, "B T H W C"]
    flow: Float[Array, "B T H W C"] | None
    out: Float[Array, "B H W C"]


class _Transformer(nn.Module):
    """What both transformers have in common.

    Attributes:
      layers: number of layers of each stack.
      heads, head_width, hidden, dropout, bug_compat, dtype: of each layer.
    """

    layers: int
    heads: int
    head_width: int
    hidden: int
    dropout: float
    bug_compat: bool = False
    dtype: DTypeLike = jnp.float32


class Transformer(_Transformer):
    """A stack of pre-norm layers; positions come only from the coordinates in the features.

    Attributes: see `_Transformer`.
    """

    @nn.compact
    def __call__(
        self,
        words: Float[Array, "B L C"],
        valid: Bool[Array, "B L"],
        vision: Float[Array, "B T H W C"],
        flow: Float[Array, "B T H W C"] | None,
        target: Int[Array, " B"],
        *,
        train: bool,
    ) -> Mixed:
        """Mixes words (the same in every frame), pixels of frames, and pixels of flow pictures."""
        x, present = _joined(words, valid, vision, flow)
        length, pixels = words.shape[1], vision.shape[2] * vision.shape[3]
        for number in range(self.layers):
            layer = Layer(
                self.heads, self.head_width, self.hidden, self.dropout, self.bug_compat,
                self.dtype, name=f"layer_{number}",
            )
            x = layer(x, present, length, pixels, train=train)
        words, vision, flow = _split(x, length, vision.shape)
        return Mixed(words, vision, vision, flow, at(vision, target))


class StagedTransformer(_Transformer):
    """The transformer of the paper's summary: an encoder, a temporal encoder and a decoder.

    The encoder mixes the tokens of all modalities within each frame. The temporal encoder mixes the
    pixels of all frames, those of the frames and those of the flow pictures by themselves. The
    decoder refines the target frame's pixels, which attend to the frame's flow pixels and words.
    That each has the same number of layers, that both streams share the temporal encoder, and that
    the frame's pixels are the decoder's queries is inferred.

    Attributes: see `_Transformer`.
    """

    def setup(self):
        def stack() -> list[PlainLayer]:
            return [PlainLayer(self.heads, self.head_width, self.hidden, self.dropout,
                               self.bug_compat, self.dtype) for _ in range(self.layers)]

        self.encoder, self.temporal, self.decoder = stack(), stack(), stack()

    def __call__(
        self,
        words: Float[Array, "B L C"],
        valid: Bool[Array, "B L"],
        vision: Float[Array, "B T H W C"],
        flow: Float[Array, "B T H W C"] | None,
        target: Int[Array, " B"],
        *,
        train: bool,
    ) -> Mixed:
        """See `Transformer`."""
        shape, length = vision.shape, words.shape[1]
        x, present = _joined(words, valid, vision, flow)
        flat, seen = x.reshape(-1, *x.shape[2:]), present.reshape(-1, x.shape[2])
        for layer in self.encoder:
            flat = layer(flat, seen, train=train)
        words, encoded, flow = _split(flat.reshape(x.shape), length, shape)
        vision = self._in_time(encoded, train=train)
        flow = None if flow is None else self._in_time(flow, train=train)
        out = at(vision, target).reshape(shape[0], -1, shape[-1])
        others, others_valid = at(words, target), valid
        if flow is not None:
            motion = at(flow, target).reshape(out.shape)
            others = jnp.concatenate([others, motion], axis=1)
            others_valid = jnp.pad(valid, ((0, 0), (0, motion.shape[1])), constant_values=True)
        for layer in self.decoder:
            out = layer(out, None, others, others_valid, train=train)
        out = out.reshape(shape[0], *shape[2:])
        return Mixed(words, encoded, vision, flow, out)

    def _in_time(
        self, x: Float[Array, "B T H W C"], *, train: bool
    ) -> Float[Array, "B T H W C"]:
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        for layer in self.temporal:
            flat = layer(flat, train=train)
        return flat.reshape(x.shape)


def at(x: jax.Array, target: jax.Array) -> jax.Array:
    """Returns `x` [B, T, ...] at the position `target` [B] of each sample."""
    return jnp.take_along_axis(x, target.reshape(-1, *(1,) * (x.ndim - 1)), axis=1)[:, 0]


def _joined(
    words: jax.Array, valid: jax.Array, vision: jax.Array, flow: jax.Array | None
) -> tuple[Float[Array, "B T N C"], Bool[Array, "B T N"]]:
    """Returns all tokens of each frame, and which exist: words, the frame's pixels, the flow's."""
    batch, frames, _, _, channels = vision.shape
    length = words.shape[1]
    repeated = jnp.broadcast_to(words[:, None], (batch, frames, length, channels))
    pictures = [p.reshape(batch, frames, -1, channels) for p in (vision, flow) if p is not None]
    x = jnp.concatenate([repeated, *pictures], axis=2)
    present = jnp.broadcast_to(valid[:, None], (batch, frames, length))
    present = jnp.pad(present, ((0, 0), (0, 0), (0, x.shape[2] - length)), constant_values=True)
    return x, present


def _split(
    x: Float[Array, "B T N C"], length: int, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Returns what `_joined` has joined; `shape` is that of the frames' pixels."""
    words, pictures = x[:, :, :length], x[:, :, length:]
    pixels = shape[2] * shape[3]
    flow = pictures[:, :, pixels:].reshape(shape) if pictures.shape[2] > pixels else None
    return words, pictures[:, :, :pixels].reshape(shape), flow


def _mlp(x: jax.Array, layer: Layer | PlainLayer, *, train: bool) -> jax.Array:
    """Applies the MLP of a layer; to be called in its compact method."""
    drop = nn.Dropout(layer.dropout, deterministic=not train)
    inner = _dense(layer.hidden, layer.dtype, "mlp1")(x)
    inner = drop(nn.gelu(inner, approximate=False))
    return drop(_dense(x.shape[-1], layer.dtype, "mlp2")(inner))


def _dense(features: int, dtype: DTypeLike, name: str, bias: bool = True) -> nn.Dense:
    return nn.Dense(features, use_bias=bias, dtype=dtype, kernel_init=torch_init, name=name)


def _norm(dtype: DTypeLike, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(1e-5, use_fast_variance=False, dtype=dtype, name=name)
