"""Encoders of frames, and of frames with masks; keys and values are computed from their maps."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vseg_jax.backbones import efficientnet
from vseg_jax.backbones.resnet import ResNet
from vseg_jax.layers.convolution import torch_init
from vseg_jax.layers.normalization import IMAGENET
from vseg_jax.models.swiftnet.blocks import conv

STRIDE = 16  # of the last map; frames are padded to a multiple of it


class Features(NamedTuple):
    """Maps of a frame, after their ReLUs: stages 3, 2 and 1 of a ResNet, and its stem.

    SwiftNet's public code refers to the stem before its ReLU, but the ReLU is computed in place.
    """

    r4: Float[Array, "B h w _"]  # stride 16
    r3: Float[Array, "B _ _ _"]  # stride 8
    r2: Float[Array, "B _ _ _"]  # stride 4
    c1: Float[Array, "B _ _ _"]  # stride 2


def resnet(depth: int, width: int, dtype: DTypeLike) -> ResNet:
    """Returns a ResNet without its last stage; its batch norm is frozen."""
    return ResNet(depth, stages=3, stem=True, width=width, norm="frozen", dtype=dtype)


class LiteEncoder(nn.Module):
    """EfficientNet-Lite0 in place of the papers' ResNet (inferred, with everything that follows).

    Its maps have both signs, but the layers behind expect the output of a ReLU, so each channel is
    split into two, its positive and its negative part. The maps are also large, so they are divided
    by their usual scale. Batch norm is frozen.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W 3"], *, train: bool
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        (mean, deviation), theirs = (jnp.asarray(c) for c in (IMAGENET, efficientnet.COLORS))
        x = ((x * deviation + mean - theirs[0]) / theirs[1]).astype(self.dtype)
        lite = efficientnet.EfficientNetLite(levels=4, dtype=self.dtype, name="lite")
        maps = zip(lite(x, train=train), efficientnet.SCALES, strict=False)
        return tuple(nn.relu(jnp.concatenate([m, -m], -1)) / scale for m, scale in maps)


def channels(backbone: str, depth: int, width: int) -> tuple[int, int, int]:
    """Returns the numbers of channels of r4, r3 and r2."""
    if backbone == "efficientnet_lite0":
        return tuple(2 * c for c in reversed(efficientnet.CHANNELS[1:4]))
    r2 = width * (4 if depth >= 50 else 1)
    return 4 * r2, 2 * r2, r2


class MaskConv(nn.Module):
    """conv(mask) + conv(others), without bias, as one convolution.

    Parameters: `mask` and `others`, [size, size, C, features].
    """

    features: int
    size: int
    stride: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, masks: Float[Array, "B H W C"], others: Float[Array, "B H W C"]
    ) -> Float[Array, "B h w D"]:
        shape = (self.size, self.size, masks.shape[-1], self.features)
        kernels = [self.param(name, torch_init, shape) for name in ("mask", "others")]
        return jax.lax.conv_general_dilated(
            jnp.concatenate([masks, others], axis=-1).astype(self.dtype),
            jnp.concatenate(kernels, axis=2).astype(self.dtype),
            (self.stride, self.stride),
            [(self.size // 2, self.size // 2)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class MemoryEncoder(nn.Module):
    """STM's Encoder_M: a second ResNet, whose stem also sees the masks."""

    depth: int
    width: int
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.resnet = resnet(self.depth, self.width, self.dtype)
        self.masks = MaskConv(self.width, 7, 2, self.dtype)

    def __call__(
        self,
        frames: Float[Array, "B H W 3"],
        masks: Float[Array, "B N H W"],
        others: Float[Array, "B N H W"],
    ) -> Float[Array, "B N h w C"]:
        flat = [m.reshape(-1, *m.shape[2:], 1) for m in (masks, others)]
        x = self.resnet(frames, self.masks(*flat), train=False)[-1]
        return x.reshape(*masks.shape[:2], *x.shape[1:])


class LightAggregation(nn.Module):
    """SwiftNet's light aggregation encoder: fuses the frame's own maps with the masks.

    Masks enter twice: by a strided convolution at the stem, and at stride 16 with every 16x16 block
    of pixels as channels (`unshuffle`). The widths for ResNet-50 are inferred: those of its maps.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        features: Features,
        masks: Float[Array, "B N H W"],
        others: Float[Array, "B N H W"],
    ) -> Float[Array, "B N h w C"]:
        maps = [x[:, None] for x in features]
        r4, r3, r2, c1 = maps
        count = masks.shape[:2]
        flat = [m.reshape(-1, *m.shape[2:], 1) for m in (masks, others)]

        def by_object(x: jax.Array) -> jax.Array:
            return x.reshape(*count, *x.shape[1:])

        def down(x: jax.Array, like: jax.Array, name: str) -> jax.Array:
            return conv(like.shape[-1], self.dtype, stride=2, bias=False, name=name)(x)

        at_stem = MaskConv(c1.shape[-1], 7, 2, self.dtype, name="masks_stem")(*flat)
        blocks = [unshuffle(m[..., 0], STRIDE) for m in flat]
        at_r4 = MaskConv(r4.shape[-1], 3, 1, self.dtype, name="masks_r4")(*blocks)
        x = nn.relu(c1 + by_object(at_stem))
        x = nn.relu(r2 + down(x, r2, "fuse1"))
        x = nn.relu(r3 + down(x, r3, "fuse2"))
        x = nn.relu(r4 + by_object(at_r4) + down(x, r4, "fuse3"))
        for name in ("fuse4", "fuse5"):
            x = nn.relu(conv(x.shape[-1], self.dtype, bias=False, name=name)(x))
        return x


def unshuffle(x: Float[Array, "B H W"], size: int) -> Float[Array, "B h w C"]:
    """Turns size x size blocks of pixels into channels: channel = row in block * size + column."""
    batch, height, width = x.shape
    x = x.reshape(batch, height // size, size, width // size, size)
    return x.transpose(0, 1, 3, 2, 4).reshape(batch, height // size, width // size, size * size)
