"""Frames and sound as tokens: Eq. 1, Eq. 2 and the audio tokens of Section III-C3."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from vseg_jax.layers.convolution import Conv1x1
from vseg_jax.layers.resize import area
from vseg_jax.models.rcf.config import RcfConfig
from vseg_jax.text.recurrent import Lstm

CELLS = 3  # a side of the depth-wise kernel of phi; inferred


def sine(height: int, width: int, channels: int) -> Float[np.ndarray, "P {channels}"]:
    """The position code of each of P = height * width cells, in reading order.

    Half of the channels say how far down a cell lies, half how far to the right, both as parts of
    the map in (0, 2 pi]. Source: DETR, as in MaskFormer (`normalize=True`).
    """
    half = channels // 2
    period = 10000.0 ** (2 * (np.arange(half) // 2) / half)

    def code(count: int) -> np.ndarray:
        place = (np.arange(count) + 1) / (count + 1e-6) * 2 * np.pi
        angle = place[:, None] / period
        return np.where(np.arange(half) % 2, np.cos(angle), np.sin(angle))

    down = np.broadcast_to(code(height)[:, None], (height, width, half))
    right = np.broadcast_to(code(width)[None], (height, width, half))
    return np.concatenate([down, right], -1).reshape(-1, channels).astype(np.float32)


class ReferenceToken(nn.Module):
    """Eq. 2: all reference maps together, weighed, pooled to K x K and projected.

    Attributes:
      features: C'.
      side: K.
      pool: phi. "dwconv" averages into CELLS x CELLS cells for each token, which a depth-wise
        convolution then joins; it begins as the average (inferred).
      weigh: whether there is a weight map W.
      activation: of W.
    """

    features: int
    side: int
    pool: str
    weigh: bool
    activation: str
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, references: Float[Array, "B R H W C"]
    ) -> tuple[Float[Array, "B K D"], Float[Array, "B H W"] | None]:
        """R maps, the newest first.

        Returns:
          tokens: in reading order.
          weight: W, where there is one.
        """
        x = jnp.moveaxis(references, 1, 3)
        x = x.reshape(*x.shape[:3], -1).astype(self.dtype)
        weight = None
        if self.weigh:
            weight = Conv1x1(1, dtype=self.dtype, name="weight")(x)
            if self.activation == "sigmoid":
                weight = nn.sigmoid(weight)
            x = x * weight
            weight = weight[..., 0]
        if self.pool == "avg":
            x = area(x, (self.side, self.side))
        else:
            x = area(x, (CELLS * self.side, CELLS * self.side))
            x = nn.Conv(
                x.shape[-1], (CELLS, CELLS), CELLS, "VALID", feature_group_count=x.shape[-1],
                kernel_init=nn.initializers.constant(1 / CELLS**2), dtype=self.dtype,
                name="depthwise",
            )(x)
        x = Conv1x1(self.features, dtype=self.dtype, name="project")(x)
        return x.reshape(x.shape[0], -1, x.shape[-1]), weight


class AudioToken(nn.Module):
    """Features of the sound of 1 + delta frames to as many tokens.

    Attributes:
      features: C'.
      hidden: of the two bi-LSTM layers, a direction.
    """

    features: int
    hidden: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, audio: Float[Array, "B S C"], valid: Bool[Array, "B S"]
    ) -> Float[Array, "B S D"]:
        """`sound` in the order of time; frames without sound are passed over by the LSTM."""
        x = audio
        for layer in range(2):
            x, _ = Lstm(self.hidden, dtype=self.dtype, name=f"lstm{layer + 1}")(x, valid)
        x = nn.relu(nn.Dense(2 * self.hidden, dtype=self.dtype, name="dense1")(x))
        return nn.Dense(self.features, dtype=self.dtype, name="dense2")(x)


def reference_token(c: RcfConfig, name: str | None = None) -> ReferenceToken:
    """The module as the config wants it."""
    return ReferenceToken(
        c.channels, c.side, c.ref_pool, c.ref_weight, c.ref_weight_act, jnp.dtype(c.dtype),
        name=name,
    )


def flat(x: jax.Array) -> jax.Array:
    """Maps [*, H, W, C] as tokens [*, H * W, C]."""
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])
