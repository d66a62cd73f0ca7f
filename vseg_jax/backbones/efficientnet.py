"""EfficientNet-Lite0: EfficientNet (Tan and Le, ICML 2019) without squeeze and with ReLU6.

It is the smallest of the five sizes released in github.com/tensorflow/tpu,
models/official/efficientnet/lite, with 4.7 million parameters, for machines on which a ResNet is
too slow.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vseg_jax.layers.convolution import Conv1x1, DepthwiseConv, he_normal
from vseg_jax.layers.normalization import BatchNorm, Norm

# Of each stage: blocks, kernel size, stride, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
LAST = (0, 1, 2, 4, 6)  # the last stage at stride 2, 4, 8, 16, 32
CHANNELS = tuple(STAGES[i][-1] for i in LAST)
SCALES = (6.0, 8.5, 7.0, 6.0, 2.5)  # RMS of these maps on photographs, with public weights
COLORS = ((127 / 255,) * 3, (128 / 255,) * 3)  # mean and deviation in the training of the weights


class EfficientNetLite(nn.Module):
    """Maps an image to a pyramid of features; without the classifier.

    Attributes:
      levels: number of maps computed, of the five at strides 2, 4, 8, 16, 32.
      norm: see `BatchNorm`.
      dtype: of the computation; parameters stay float32.
    """

    levels: int = 5
    norm: Norm = "frozen"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W 3"], *, train: bool
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        """Computes the maps of images in [0, 1], normalized by the mean and deviation of `COLORS`.

        Returns:
          `levels` maps, the largest first, with `CHANNELS` channels. They are the outputs of
          linear bottlenecks, without a ReLU, so they have both signs.
        """

        def norm(x: jax.Array, name: str) -> jax.Array:
            return BatchNorm(self.norm, eps=1e-3, momentum=0.01, dtype=self.dtype, name=name)(
                x, train=train
            )

        stem = nn.Conv(
            32, (3, 3), (2, 2), "SAME", use_bias=False, dtype=self.dtype, kernel_init=he_normal,
            name="stem",
        )
        x = nn.relu6(norm(stem(x), "stem_norm"))
        maps, number = [], 0
        for stage, (blocks, size, first_stride, expansion, features) in enumerate(STAGES):
            if len(maps) == self.levels:
                break
            for block in range(blocks):
                name, before = f"block{number}", x
                stride = first_stride if block == 0 else 1
                if expansion > 1:
                    x = Conv1x1(
                        expansion * x.shape[-1], use_bias=False, dtype=self.dtype,
                        name=f"{name}_expand",
                    )(x)
                    x = nn.relu6(norm(x, f"{name}_norm0"))
                x = DepthwiseConv(size, stride, self.dtype, name=f"{name}_depthwise")(x)
                x = nn.relu6(norm(x, f"{name}_norm1"))
                x = Conv1x1(features, use_bias=False, dtype=self.dtype, name=f"{name}_project")(x)
                x = norm(x, f"{name}_norm2")
                if block > 0:
                    x = x + before
                number += 1
            if stage in LAST:
                maps.append(x)
        return tuple(maps)
