"""Language-relevant channel filter (Section 3.2, Eq. 5)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vseg_jax.models.cvls.config import CvlsConfig

LEAKY_SLOPE = 0.01  # inferred: the default of PyTorch's LeakyReLU


class ChannelFilter(nn.Module):
    """A gate in (0, 1) for each channel, from the sentence: sigmoid(W2 LeakyReLU(W1 l + b1) + b2).

    The width of the bottleneck (`lcf_reduction`) and the slope are inferred.
    """

    config: CvlsConfig

    @nn.compact
    def __call__(self, sentence: Float[Array, "B C"]) -> Float[Array, "B C"]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        x = nn.Dense(c.channels // c.lcf_reduction, dtype=dtype, name="squeeze")(sentence)
        x = nn.leaky_relu(x, LEAKY_SLOPE)
        return nn.sigmoid(nn.Dense(c.channels, dtype=dtype, name="excite")(x))
