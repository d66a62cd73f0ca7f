"""Frames and audio as tokens: Eq. 1, Eq. 2 and the audio tokens of Section III-C3."""

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

CELLS = 3  # side of phi's depth-wise kernel; inferred


def sine(height: int, width: int, channels: int) -> Float[np.ndarray, "P {channels}"]:
    """Returns the position codes of P = height * width cells, in row-major order.

    Half of the channels encode a cell's row, half its column, both scaled to (0, 2 pi] over the
    map. Source: DETR, as in MaskFormer (`normalize=True`).
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
    """Eq. 2: concatenates all reference maps, weights them, pools to K x K and projects.

    Attributes:
      features: C'.
      side: K.
      pool: phi. "dwconv" averages into CELLS x CELLS cells for each token, which a depth-wise
        convolution then combines; it is initialized as the average (inferred).
      weighted: whether there is a weight map W.
      activation: of W.
      dtype: of the computation.
    """

    features: int
    side: int
    pool: str
    weighted: bool
    activation: str
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, references: Float[Array, "B R H W C"]
    ) -> tuple[Float[Array, "B K D"], Float[Array, "B H W"] | None]:
        """Returns the reference tokens of R maps, the newest first.

        Returns:
          tokens: in row-major order.
          weight: W; None without one.
        """
        x = jnp.moveaxis(references, 1, 3)
        x = x.reshape(*x.shape[:3], -1).astype(self.dtype)
        weight = None
        if self.weighted:
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
    """Turns the audio features of 1 + delta frames into as many tokens.

    Attributes:
      features: C'.
      hidden: width of the two bi-LSTM layers, per direction.
      dtype: of the computation.
    """

    features: int
    hidden: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, audio: Float[Array, "B S C"], valid: Bool[Array, "B S"]
    ) -> Float[Array, "B S D"]:
        """Returns the tokens; `audio` is in temporal order, the LSTM skips frames without it."""
        x = audio
        for layer in range(2):
            x, _ = Lstm(self.hidden, dtype=self.dtype, name=f"lstm{layer + 1}")(x, valid)
        x = nn.relu(nn.Dense(2 * self.hidden, dtype=self.dtype, name="dense1")(x))
        return nn.Dense(self.features, dtype=self.dtype, name="dense2")(x)


def reference_token(c: RcfConfig, name: str | None = None) -> ReferenceToken:
    """Returns the module that the config describes."""
    return ReferenceToken(
        c.channels, c.side, c.ref_pool, c.ref_weight, c.ref_weight_act, jnp.dtype(c.dtype),
        name=name,
    )


def flat(x: jax.Array) -> jax.Array:
    """Reshapes maps [*, H, W, C] to tokens [*, H * W, C]."""
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])
