"""I3D: Inception-v1 inflated to three dimensions (Carreira & Zisserman, CVPR 2017)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vseg_jax.backbones.hooks import Change, unchanged, within
from vseg_jax.layers.convolution import Conv1x1, Conv3d, Triple, max_pool
from vseg_jax.layers.normalization import BatchNorm, Norm

# Channels of the four branches: 1x1 | 1x1 -> 3x3x3 | 1x1 -> 3x3x3 | pool -> 1x1.
MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
STAGES = 5
ENDS = ("conv_1a", "conv_2c", "mixed_3c", "mixed_4f", "mixed_5c")  # last layers of the stages


class I3D(nn.Module):
    """Maps a clip to five stages of features; without the classifier.

    | stage | last layer | channels | space | time |
    |---|---|---|---|---|
    | 1 | conv 1a 7x7x7 | 64 | 1/2 | 1/2 |
    | 2 | conv 2c 3x3x3 | 192 | 1/4 | 1/2 |
    | 3 | mixed 3c | 480 | 1/8 | 1/2 |
    | 4 | mixed 4f | 832 | 1/16 | 1/4 |
    | 5 | mixed 5c | 1024 | 1/32 | 1/8 |

    Sizes are rounded up, so the number of frames is free. All padding is TensorFlow's SAME, as in
    the published network.

    Attributes:
      stages: number of stages computed, of five.
      width: factor of all channels (rounded, at least 1), for small models.
      norm: see `BatchNorm`.
      eps: of the batch normalization: 1e-3 with DeepMind's weights and the public PyTorch
        conversions, 1e-5 in ACGA's and CSTM's code.
      dtype: of the computation; parameters stay float32.
    """

    stages: int = STAGES
    width: float = 1.0
    norm: Norm = "frozen"
    eps: float = 1e-3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W 3"], *, train: bool, change: Change = unchanged
    ) -> tuple[Float[Array, "B _ _ _ _"], ...]:
        """Computes the maps of clips scaled as in the weights' training ([-1, 1] for DeepMind's).

        Args:
          x: the clips.
          train: see `BatchNorm`.
          change: called with the features at "conv_{n}_conv" (before the norm) and "conv_{n}_norm"
            (before the ReLU) for n = 1a, 2b, 2c, at "pool_2a", and at the end of each stage
            (`ENDS`). Later layers continue with the result.

        Returns:
          `stages` feature maps [B, T_k, H_k, W_k, C_k], the largest first. The output of every unit
          is available by name with `capture_intermediates=True`.

        Raises:
          ValueError: `stages` is out of range.
        """
        if not 1 <= self.stages <= STAGES:
            raise ValueError(f"stages is {self.stages}; it must be 1 to {STAGES}")
        common = {"norm": self.norm, "eps": self.eps, "dtype": self.dtype}

        def conv(x: Array, name: str, features: int, kernel: Triple, strides: Triple) -> Array:
            name = f"conv_{name}"
            unit = Unit(*self._scaled(features), kernel, strides, **common, name=name)
            return unit(x, train=train, change=within(name, change))

        def mixed(x: Array, *names: str) -> Array:
            for name in names:
                unit = Mixed(self._scaled(*MIXED[name]), **common, name=f"mixed_{name}")
                x = unit(x, train=train)
            return x

        def second_stage(x: Array) -> Array:
            x = change("pool_2a", max_pool(x, (1, 3, 3), (1, 2, 2)))
            x = conv(x, "2b", 64, (1, 1, 1), (1, 1, 1))
            return conv(x, "2c", 192, (3, 3, 3), (1, 1, 1))

        stages = (
            lambda x: conv(x, "1a", 64, (7, 7, 7), (2, 2, 2)),
            second_stage,
            lambda x: mixed(max_pool(x, (1, 3, 3), (1, 2, 2)), "3b", "3c"),
            lambda x: mixed(max_pool(x, (3, 3, 3), (2, 2, 2)), "4b", "4c", "4d", "4e", "4f"),
            lambda x: mixed(max_pool(x, (2, 2, 2), (2, 2, 2)), "5b", "5c"),
        )
        outputs = []
        for end, stage in zip(ENDS[: self.stages], stages, strict=False):
            x = change(end, stage(x))
            outputs.append(x)
        return tuple(outputs)

    def _scaled(self, *channels: int) -> tuple[int, ...]:
        return tuple(max(round(c * self.width), 1) for c in channels)


class Unit(nn.Module):
    """Convolution without bias, normalization, ReLU."""

    features: int
    kernel_size: Triple = (1, 1, 1)
    strides: Triple = (1, 1, 1)
    norm: Norm = "frozen"
    eps: float = 1e-3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W C"], *, train: bool, change: Change = unchanged
    ) -> Float[Array, "B t h w D"]:
        """Returns the map of the unit; `change` is called at "conv" and "norm", after these."""
        if self.kernel_size == (1, 1, 1):
            conv = Conv1x1(self.features, self.strides, False, self.dtype, name="conv")
        else:
            conv = Conv3d(self.features, self.kernel_size, self.strides, self.dtype, name="conv")
        norm = BatchNorm(self.norm, self.eps, dtype=self.dtype, name="norm")
        return nn.relu(change("norm", norm(change("conv", conv(x)), train=train)))


class Mixed(nn.Module):
    """The Inception block: four branches (see `MIXED`), concatenated along the channels."""

    channels: tuple[int, ...]
    norm: Norm = "frozen"
    eps: float = 1e-3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T H W C"], *, train: bool) -> Float[Array, "B T H W D"]:
        """Returns the concatenated branches."""

        def unit(x: Array, name: str, features: int, size: int = 1) -> Array:
            kernel = (size, size, size)
            layer = Unit(features, kernel, (1, 1, 1), self.norm, self.eps, self.dtype, name=name)
            return layer(x, train=train)

        c = self.channels
        branches = (
            unit(x, "branch_0", c[0]),
            unit(unit(x, "branch_1_a", c[1]), "branch_1_b", c[2], size=3),
            unit(unit(x, "branch_2_a", c[3]), "branch_2_b", c[4], size=3),
            unit(max_pool(x, (3, 3, 3), (1, 1, 1)), "branch_3", c[5]),
        )
        return jnp.concatenate(branches, axis=-1)
