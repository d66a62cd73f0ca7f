"""VGGish (Hershey et al., ICASSP 2017): features of 0.96 s of audio.

Source: github.com/harritaylor/torchvggish, the port of Google's AudioSet release.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vseg_jax.layers.convolution import he_normal, max_pool

# Channels of the convolutions of each stage, in units of `width`; max pooling ends a stage.
STAGES = ((1,), (2,), (4, 4), (8, 8))


class Vggish(nn.Module):
    """Maps a log-mel patch (`vseg_jax.input_pipeline.audio`) to the features before the last layer.

    Attributes:
      width: channels of the first convolution; 64 in the paper, fewer for small models.
      hidden: width of the two dense layers, and of the result.
      embedding: whether to return VGGish's embedding of 128 numbers, one dense layer further.
      dtype: of the computation; parameters stay float32.
    """

    width: int = 64
    hidden: int = 4096
    embedding: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*B 96 64"]) -> Float[Array, "*B D"]:
        """Computes features of any number of patches, such as those of a clip or of several."""
        leading = x.shape[:-2]
        x = x.reshape(-1, *x.shape[-2:], 1)
        for stage, widths in enumerate(STAGES, 1):
            for i, width in enumerate(widths, 1):
                x = nn.relu(nn.Conv(
                    width * self.width, (3, 3), padding=1, kernel_init=he_normal, dtype=self.dtype,
                    name=f"conv{stage}_{i}",
                )(x))
            x = max_pool(x, (2, 2), (2, 2), (0, 0))
        x = x.reshape(*leading, -1)
        widths = (self.hidden, self.hidden, 128) if self.embedding else (self.hidden, self.hidden)
        for i, width in enumerate(widths, 1):
            x = nn.relu(nn.Dense(
                width, kernel_init=he_normal, dtype=self.dtype, name=f"dense{i}"
            )(x))
        return x
