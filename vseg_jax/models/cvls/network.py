"""The network of Section 3.3: encoders, channel filter, fusion by concatenation, mask decoder.

The contrast is not part of it: the training loss reads the features that it needs from `Output`.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.layers.convolution import Conv1x1, he_normal
from vseg_jax.layers.precision import at_least_float32
from vseg_jax.layers.resize import bilinear
from vseg_jax.models.cvls.config import CvlsConfig
from vseg_jax.models.cvls.encoders import LanguageEncoder, Pyramid, VisualEncoder
from vseg_jax.models.cvls.filter import ChannelFilter


class Output(NamedTuple):
    """The results of one forward pass for S selected frames.

    Attributes:
      logits: before the sigmoid, at the size of the input.
      coarse: logits at the size of F, a quarter of the input's.
      features: F, filtered if LCF is on; the contrast pools them. With `normalize` F before the
        filter and `sentence` have a root mean square of 1 over their channels.
      sentence: l.
    """

    logits: Float[Array, "B S H W"]
    coarse: Float[Array, "B S h w"]
    features: Float[Array, "B S h w C"]
    sentence: Float[Array, "B C"]


class Network(nn.Module):
    """A clip and a referring expression to the masks of selected frames."""

    config: CvlsConfig

    def setup(self):
        c = self.config
        self.visual = VisualEncoder(c)
        self.text = LanguageEncoder(c)
        self.pyramid = Pyramid(c)
        if c.lcf:
            self.filter = ChannelFilter(c)
        self.decoder = Decoder(c)
        self.scaled = nn.RMSNorm(use_scale=False, dtype=jnp.dtype(c.dtype))

    def encode_query(
        self, tokens: Int[Array, "B L"], valid: Bool[Array, "B L"]
    ) -> Float[Array, "B C"]:
        """Encodes the expression; a stream does this once."""
        sentence = self.text(tokens, valid)
        return self.scaled(sentence) if self.config.normalize else sentence

    def __call__(
        self,
        frames: UInt8[Array, "B T H W 3"],
        positions: Int[Array, "B S"],
        sentence: Float[Array, "B C"],
        *,
        train: bool,
    ) -> Output:
        """Segments the frames at these positions of each clip."""
        features = self.pyramid(self.visual(frames, positions, train=train))
        if self.config.normalize:
            features = self.scaled(features)
        if self.config.lcf:
            features = features * self.filter(sentence)[:, None, None, None]
        coarse = self.decoder(features, sentence)
        logits = bilinear(coarse, frames.shape[2:4], align_corners=False)
        return Output(logits[..., 0], coarse[..., 0], features, sentence)

    def full(
        self,
        frames: UInt8[Array, "B T H W 3"],
        positions: Int[Array, "B S"],
        tokens: Int[Array, "B L"],
        valid: Bool[Array, "B L"],
        *,
        train: bool,
    ) -> Output:
        """Encodes the expression and segments the selected frames."""
        return self(frames, positions, self.encode_query(tokens, valid), train=train)


class Decoder(nn.Module):
    """G = ReLU(Conv1x1([F; l])), three convolutions, and one to a logit (Section 4.2).

    The fusion is the baseline's ("implicit concatenation-convolution", Section 4.4). Kernels of
    size 3 with ReLU, and of size 1 for the logit, are inferred.
    """

    config: CvlsConfig

    @nn.compact
    def __call__(
        self, features: Float[Array, "B S h w C"], sentence: Float[Array, "B C"]
    ) -> Float[Array, "B S h w 1"]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        tiled = jnp.broadcast_to(sentence[:, None, None, None], features.shape)
        x = Conv1x1(c.channels, dtype=dtype, name="fuse")(
            jnp.concatenate([features, tiled.astype(features.dtype)], axis=-1)
        )
        x = nn.relu(x)
        for i in (1, 2, 3):
            conv = nn.Conv(c.channels, (3, 3), dtype=dtype, kernel_init=he_normal, name=f"conv_{i}")
            x = nn.relu(conv(x))
        logit = nn.Dense(1, dtype=dtype, name="logit")(x)
        return at_least_float32(logit)
