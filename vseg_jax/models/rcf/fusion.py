"""Robust context fusion of the target's tokens with those of references and audio."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vseg_jax.layers.convolution import Conv1x1
from vseg_jax.models.rcf.config import RcfConfig
from vseg_jax.models.rcf.tokens import AudioToken, flat, reference_token, sine
from vseg_jax.models.rcf.transformer import Encoder


class Fused(NamedTuple):
    """The fused tokens O': those of the target first, in reading order.

    Attributes:
      target: the target's tokens as a map.
      tokens: all of them.
      positions: their position codes.
      mask: which tokens are valid; None if all are.
      weight: W of Eq. 2; None without one.
    """

    target: Float[Array, "B H W D"]
    tokens: Float[Array, "B L D"]
    positions: Float[Array, "1 L D"]
    mask: Bool[Array, "B 1 L"] | None
    weight: Float[Array, "B H W"] | None


class Fusion(nn.Module):
    """Section III-B1, and the two variants of Table IV with full reference features.

    "full_enc" encodes the tokens of every reference together with the target's; "full_dec" encodes
    each reference separately and combines them before the decoder. The paper's "separate
    transformer encoders" have the weights of the target's encoder (inferred) or, with
    `separate_encoders`, their own. In both, a learned vector distinguishes the frames (inferred),
    and another one the audio of different frames. With "full_dec", audio is encoded with the target
    (inferred).
    """

    config: RcfConfig

    def setup(self):
        c = self.config
        dtype = jnp.dtype(c.dtype)
        self.target = Conv1x1(c.channels, dtype=dtype)
        if c.references and c.fusion == "reference_token":
            self.reference = reference_token(c)
        elif c.references:
            self.reference_time = self._times("reference_time", c.references)
        if c.audio:
            self.audio = AudioToken(c.channels, c.audio_hidden, dtype)
            self.audio_time = self._times("audio_time", 1 + c.references)
        sizes = c.encoder_layers, c.heads, c.hidden, c.dropout, dtype
        self.encoder = Encoder(*sizes)
        if c.separate_encoders:
            self.reference_encoder = [Encoder(*sizes) for _ in range(c.references)]

    def _times(self, name: str, count: int) -> Array:
        init = nn.initializers.normal(0.02)
        return self.param(name, init, (count, self.config.channels))

    def __call__(
        self,
        target: Float[Array, "B H W C"],
        references: Float[Array, "B R H W C"] | None,
        audio: Float[Array, "B S A"] | None,
        audio_valid: Bool[Array, "B S"] | None,
        *,
        train: bool,
    ) -> Fused:
        """Fuses the tokens; `references` have the newest first, `audio` is in temporal order."""
        c = self.config
        batch, height, width, _ = target.shape
        codes = jnp.asarray(sine(height, width, c.channels))
        cells, weight = height * width, None
        parts = [(flat(self.target(target)), codes)]
        if c.references and c.fusion == "reference_token":
            tokens, weight = self.reference(references)
            parts.append((tokens, jnp.asarray(sine(c.side, c.side, c.channels))))
        elif c.references and c.fusion == "full_enc":
            parts += self._reference_tokens(references, codes)
        if c.audio:
            parts.append((self.audio(audio, audio_valid), self.audio_time))
        tokens, positions = self._concatenated(parts)
        mask = None
        if c.audio:
            there = jnp.ones((batch, tokens.shape[1] - audio.shape[1]), bool)
            mask = jnp.concatenate([there, audio_valid], axis=1)[:, None]
        tokens = self._encode(self.encoder, tokens, positions, mask, train)
        fused = tokens[:, :cells].reshape(batch, height, width, -1)
        if c.references and c.fusion == "full_dec":
            others = []
            for r, part in enumerate(self._reference_tokens(references, codes)):
                x, code = self._concatenated([part])
                encoder = self.reference_encoder[r] if c.separate_encoders else self.encoder
                others.append((self._encode(encoder, x, code, None, train), code[0]))
            if mask is not None:
                valid = jnp.ones((batch, 1, c.references * cells), bool)
                mask = jnp.concatenate([mask, valid], axis=2)
            tokens = jnp.concatenate([tokens, *(x for x, _ in others)], axis=1)
            positions = jnp.concatenate([positions, *(p[None] for _, p in others)], axis=1)
        return Fused(fused, tokens, positions, mask, weight)

    def _reference_tokens(self, references: Array, codes: Array) -> list[tuple[Array, Array]]:
        """Returns tokens and position codes of every reference."""
        return [
            (flat(self.target(references[:, r])), codes + self.reference_time[r])
            for r in range(self.config.references)
        ]

    def _concatenated(self, parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
        """Concatenates tokens [B, L, D] and position codes [1, L, D] of all parts."""
        tokens = jnp.concatenate([x for x, _ in parts], axis=1)
        positions = jnp.concatenate([p for _, p in parts])[None].astype(tokens.dtype)
        if self.config.positions == "once":
            tokens = tokens + positions
        return tokens, positions

    def _encode(
        self, encoder: Encoder, tokens: Array, positions: Array, mask: Array | None, train: bool
    ) -> Array:
        if self.config.positions == "once":
            positions = jnp.zeros_like(positions)
        return encoder(tokens, positions, mask, train=train)
