"""Expression to a vector, frames to a pyramid, pyramid to the map F (Section 3.3)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.backbones.i3d import I3D
from vseg_jax.backbones.resnet import ResNet
from vseg_jax.layers.convolution import Conv1x1, fan_in_uniform
from vseg_jax.layers.coordinates import append_coordinates
from vseg_jax.layers.normalization import imagenet_colors
from vseg_jax.layers.precision import at_least_float32
from vseg_jax.layers.resize import bilinear, nearest
from vseg_jax.models.cvls.config import LEVELS, CvlsConfig
from vseg_jax.text.recurrent import Lstm, WordEmbedding


class LanguageEncoder(nn.Module):
    """Word embedding, bi-LSTM, self-guided attention (Eq. 8), projection to C channels."""

    config: CvlsConfig

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B L"], valid: Bool[Array, "B L"]
    ) -> Float[Array, "B C"]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        words = WordEmbedding(
            c.vocabulary, c.word_width, dtype, one_hot=c.word_init == "one_hot", name="embedding",
        )(tokens)
        states, _ = Lstm(c.lstm_width, True, dtype, name="lstm")(words, valid)
        sentence = SelfGuidedAttention(c, name="attention")(states, valid)
        return nn.Dense(c.channels, dtype=dtype, name="project")(sentence)


class SelfGuidedAttention(nn.Module):
    """l = sum_n alpha_n h_n, where alpha is the softmax of the scores of the valid words (Eq. 8).

    The equation is lost: a score is w . tanh(W_a h_n + b_a), or W_a h_n + b_a itself (inferred).
    An expression without a word gives zeros.
    """

    config: CvlsConfig

    @nn.compact
    def __call__(
        self, states: Float[Array, "B L D"], valid: Bool[Array, "B L"]
    ) -> Float[Array, "B D"]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        x = states
        if c.text_attention == "tanh":
            x = jnp.tanh(nn.Dense(states.shape[-1], dtype=dtype, name="hidden")(x))
        # A bias of the scores themselves would cancel in the softmax.
        scores = nn.Dense(1, use_bias=False, dtype=dtype, name="score")(x)[..., 0]
        scores = at_least_float32(scores)
        weights = jax.nn.softmax(jnp.where(valid, scores, jnp.finfo(scores.dtype).min))
        weights = jnp.where(valid, weights, 0).astype(states.dtype)
        return jnp.einsum("bl,bld->bd", weights, states)


class VisualEncoder(nn.Module):
    """Four maps of each selected frame, at strides 4, 8, 16, 32.

    A ResNet reads the selected frames one by one. I3D (this library's addition) reads the clip,
    with colors in [-1, 1] as DeepMind's weights expect; a frame gets the temporal slice that
    contains it.
    """

    config: CvlsConfig

    @nn.compact
    def __call__(
        self, frames: UInt8[Array, "B T H W 3"], positions: Int[Array, "B S"], *, train: bool
    ) -> tuple[Float[Array, "B S _ _ _"], ...]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        if c.backbone == "i3d":
            clip = 2 * (frames.astype(dtype) / 255) - 1
            network = I3D(LEVELS + 1, c.i3d_width, c.backbone_norm, c.i3d_eps, dtype, name="i3d")
            stages = network(clip, train=train)[1:]  # the first has stride 2
            return tuple(
                _frames_at(stage, positions * stage.shape[1] // frames.shape[1])
                for stage in stages
            )
        images = _frames_at(frames, positions)
        images = imagenet_colors(images.reshape(-1, *frames.shape[2:]), dtype)
        network = ResNet(
            int(c.backbone.removeprefix("resnet")), width=c.resnet_width, norm=c.backbone_norm,
            dtype=dtype, name="resnet",
        )
        stages = network(images, train=train)
        return tuple(x.reshape(*positions.shape, *x.shape[1:]) for x in stages)


def _frames_at(x: jax.Array, positions: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, positions[:, :, None, None, None], axis=1)


class Pyramid(nn.Module):
    """Spatial encoding module, top-down pathway, and the combination of their levels to F.

    V^s_i = Conv1x1([V_i; S_i]) (Eq. 9), P_i = V^s_i + up(P_{i+1}), and F = Conv1x1 of all P_i
    concatenated at the size of P_1 (this last convolution is inferred).
    """

    config: CvlsConfig

    @nn.compact
    def __call__(
        self, levels: tuple[Float[Array, "B S _ _ _"], ...]
    ) -> Float[Array, "B S h w C"]:
        c = self.config
        dtype = jnp.dtype(c.dtype)

        def linear(x: jax.Array, name: str) -> jax.Array:
            conv = Conv1x1(c.channels, dtype=dtype, kernel_init=fan_in_uniform, name=name)
            return conv(x)

        def lateral(i: int) -> jax.Array:
            return linear(append_coordinates(levels[i]) if c.sem else levels[i], f"sem_{i + 1}")

        enhanced = [lateral(i) for i in range(LEVELS)]
        if c.fpn:
            for i in reversed(range(LEVELS - 1)):
                above = _resize(enhanced[i + 1], enhanced[i].shape[2:4], c.fpn_upsample)
                enhanced[i] = enhanced[i] + above
        size = enhanced[0].shape[2:4]
        joined = [enhanced[0], *(_resize(x, size, c.fpn_upsample) for x in enhanced[1:])]
        return linear(jnp.concatenate(joined, axis=-1), "join")


def _resize(x: jax.Array, size: tuple[int, int], how: str) -> jax.Array:
    return nearest(x, size) if how == "nearest" else bilinear(x, size, align_corners=False)
