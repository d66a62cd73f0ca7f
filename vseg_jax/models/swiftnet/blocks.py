"""Layers behind the encoders: key and value convolutions, ASPP, refinement, decoder.

STM: Oh et al., ICCV 2019, as github.com/seoungwugoh/STM; SwiftNet: Wang et al., CVPR 2021, as
github.com/haochenheheda/SwiftNet. Convolutions take any number of axes before H.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vseg_jax.layers.convolution import torch_init
from vseg_jax.layers.residual import ResidualBlock
from vseg_jax.layers.resize import bilinear


def conv(
    features: int,
    dtype: DTypeLike,
    *,
    stride: int = 1,
    dilation: int = 1,
    bias: bool = True,
    name: str | None = None,
) -> nn.Conv:
    """Returns a 3x3 convolution with equal padding on both sides."""
    return nn.Conv(
        features, (3, 3), stride, dilation, kernel_dilation=dilation, use_bias=bias, dtype=dtype,
        kernel_init=torch_init, name=name,
    )


class KeyValue(nn.Module):
    """Keys, by which pixels are found, and values, which are read there: one convolution each.

    Initialized as in PyTorch; larger kernels (He) make the affinity of untrained keys nearly
    one-hot.
    """

    key_channels: int
    value_channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "*B H W C"]
    ) -> tuple[Float[Array, "*B H W K"], Float[Array, "*B H W V"]]:
        key = conv(self.key_channels, self.dtype, name="key")(x)
        return key, conv(self.value_channels, self.dtype, name="value")(x)


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling of SwiftNet: a 1x1 and three dilated convolutions.

    Attributes:
      features: channels of each branch and of the result.
      dropout: rate, in training.
      dtype: of the computation.
    """

    features: int
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*B H W C"], *, train: bool) -> Float[Array, "*B H W D"]:
        branches = [_pointwise(self.features, self.dtype, "branch_1")(x)]
        for number, dilation in ((2, 2), (3, 4), (4, 8)):
            branch = conv(
                self.features, self.dtype, dilation=dilation, bias=False, name=f"branch_{number}"
            )
            branches.append(branch(x))
        x = nn.relu(jnp.concatenate(branches, axis=-1))
        x = nn.relu(_pointwise(self.features, self.dtype, "join")(x))
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class Refine(nn.Module):
    """Adds a finer map of the frame to every object's coarser one.

    The frame's part is the same for all objects and is computed once.
    """

    features: int
    rectified: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, frame: Float[Array, "B H W C"], objects: Float[Array, "B N h w D"]
    ) -> Float[Array, "B N H W D"]:
        x = conv(self.features, self.dtype, name="skip")(frame)
        x = ResidualBlock(self.rectified, self.dtype, name="skip_block")(x)
        x = x[:, None] + bilinear(objects, frame.shape[1:3], align_corners=False)
        return ResidualBlock(self.rectified, self.dtype, name="block")(x)


class Decoder(nn.Module):
    """Decodes the memory readout to each object's probability at the frame's size.

    Attributes:
      mdim: channels throughout.
      rectified: see `ResidualBlock`.
      dtype: of the computation; probabilities are at least float32.
    """

    mdim: int
    rectified: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B N h w V"],
        r3: Float[Array, "B _ _ _"],
        r2: Float[Array, "B _ _ _"],
    ) -> Float[Array, "B N H W"]:
        """Returns probabilities.

        The softmax over background and object is a sigmoid of their difference, and the difference
        commutes with the (linear) upsampling by 4, so it is taken first.
        """
        x = conv(self.mdim, self.dtype, name="reduce")(x)
        x = ResidualBlock(self.rectified, self.dtype, name="block")(x)
        x = Refine(self.mdim, self.rectified, self.dtype, name="refine3")(r3, x)
        x = Refine(self.mdim, self.rectified, self.dtype, name="refine2")(r2, x)
        pair = conv(2, self.dtype, name="predict")(nn.relu(x))
        pair = pair.astype(jnp.promote_types(self.dtype, jnp.float32))
        height, width = r2.shape[1:3]
        logit = bilinear(
            pair[..., 1:] - pair[..., :1], (4 * height, 4 * width), align_corners=False
        )
        return jax.nn.sigmoid(logit[..., 0])


def _pointwise(features: int, dtype: DTypeLike, name: str) -> nn.Dense:
    return nn.Dense(features, use_bias=False, dtype=dtype, kernel_init=torch_init, name=name)
