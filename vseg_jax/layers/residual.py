"""The residual block of STM's decoder, which later segmentation decoders share."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vseg_jax.layers.convolution import torch_init


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, around a residual connection.

    Attributes:
      rectified: whether the residual connection carries ReLU(x) in place of x. SwiftNet's public
        code computes the ReLU in place, so its weights were trained that way.
      dtype: of the computation; parameters stay float32.

    Source: Oh et al., ICCV 2019 (STM).
    """

    rectified: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*B H W C"]) -> Float[Array, "*B H W C"]:
        """Returns a map of the same shape."""

        def conv(x: Array, name: str) -> Array:
            return nn.Conv(
                x.shape[-1], (3, 3), padding=1, kernel_init=torch_init, dtype=self.dtype, name=name
            )(x)

        positive = nn.relu(x)
        inner = conv(nn.relu(conv(positive, "conv1")), "conv2")
        return (positive if self.rectified else x) + inner
