"""The two networks of mask propagation, STM and SwiftNet, with the same five methods.

Frames are float, normalized with ImageNet's mean and deviation, and padded (with black, before the
normalization) to a multiple of 16; h, w = H / 16, W / 16. Masks are probabilities in [0, 1], padded
with 0. `others` of object n is the sum of the masks of all other objects, clipped to [0, 1], as in
both public repositories. Reading the memory happens between `query` and `decode`; it has no
parameters and is not part of the network.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vseg_jax.models.swiftnet.blocks import Aspp, Decoder, KeyValue
from vseg_jax.models.swiftnet.encoders import (
    Features,
    LightAggregation,
    LiteEncoder,
    MemoryEncoder,
    channels,
    resnet,
)


class _Network(nn.Module):
    """The common parts of both networks.

    Attributes:
      depth: of the ResNet, 18 or 50.
      width: channels of its stem; 64 in the papers, fewer for small models.
      backbone: "resnet" as in the papers, or "efficientnet_lite0" (SwiftNet only), which ignores
        depth and width.
      key_channels: None for an eighth of the channels C of r4, as in the papers.
      value_channels: None for half of C.
      mdim: channels of the decoder; None for a quarter of C.
      dropout: of SwiftNet's ASPP in training.
      dtype: of the computation; parameters and probabilities are float32.

    Parameters of the key convolutions: `memory_kv/key` and `query_kv/key`, each `kernel` and
    `bias`.
    """

    depth: int = 50
    width: int = 64
    backbone: str = "resnet"
    key_channels: int | None = None
    value_channels: int | None = None
    mdim: int | None = None
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    def setup(self):
        c4 = self.channels
        self.encoder = (
            resnet(self.depth, self.width, self.dtype) if self.backbone == "resnet"
            else LiteEncoder(self.dtype)
        )
        self.memory_kv, self.query_kv = (
            KeyValue(self.key_channels or c4 // 8, self.value_channels or c4 // 2, self.dtype)
            for _ in range(2)
        )

    @property
    def channels(self) -> int:
        """C, channels of the map at stride 16."""
        return channels(self.backbone, self.depth, self.width)[0]

    def __call__(
        self,
        frames: Float[Array, "B H W 3"],
        masks: Float[Array, "B N H W"],
        others: Float[Array, "B N H W"],
    ) -> Float[Array, "B N H W"]:
        """Runs every part, with each frame's own values as its memory; for `init`."""
        features = self.encode(frames)
        _, value = self.query(features)
        _, values = self.memorize(self.fuse(features, frames, masks, others))
        return self.decode(values, value, features)

    def encode(self, frames: Float[Array, "B H W 3"]) -> Features:
        """Returns the maps of the frames."""
        c1, r2, r3, r4 = self.encoder(frames.astype(self.dtype), train=False)
        return Features(r4, r3, r2, c1)

    def query(
        self, features: Features
    ) -> tuple[Float[Array, "B h w K"], Float[Array, "B h w V"]]:
        """Returns keys to search the memory with, and values for the decoder."""
        return self.query_kv(features.r4)

    def memorize(
        self, x: Float[Array, "B N h w C"]
    ) -> tuple[Float[Array, "B N h w K"], Float[Array, "B N h w V"]]:
        """Returns keys and values of the map that `fuse` returned."""
        return self.memory_kv(x)


class StmNetwork(_Network):
    """Space-time memory network (Oh et al., ICCV 2019; github.com/seoungwugoh/STM: depth 50).

    Frames with masks have an encoder of their own; the decoder takes the memory readout together
    with the query's value.
    """

    def setup(self):
        super().setup()
        self.memory_encoder = MemoryEncoder(self.depth, self.width, self.dtype)
        self.decoder = _decoder(self, rectified=False)

    def fuse(
        self,
        features: Features | None,
        frames: Float[Array, "B H W 3"],
        masks: Float[Array, "B N H W"],
        others: Float[Array, "B N H W"],
    ) -> Float[Array, "B N h w C"]:
        """Returns r4 of the memory encoder; `features` are not used."""
        return self.memory_encoder(frames.astype(self.dtype), masks, others)

    def decode(
        self,
        read: Float[Array, "B N h w V"],
        value: Float[Array, "B h w V"],
        features: Features,
        *,
        train: bool = False,
    ) -> Float[Array, "B N H W"]:
        """Returns each object's own probability, before the aggregation over objects."""
        return self.decoder(_with_value(read, value), features.r3, features.r2)


class SwiftNetwork(_Network):
    """SwiftNet (Wang et al., CVPR 2021; github.com/haochenheheda/SwiftNet: depth 18).

    The memory's features are derived from the query's, so that a frame is encoded once. The widths
    for depth 50, for which no code was released, are inferred: the same fractions of its channels.
    """

    def setup(self):
        super().setup()
        self.aggregation = LightAggregation(self.dtype)
        self.aspp = Aspp(self.value_channels or self.channels // 2, self.dropout, self.dtype)
        self.decoder = _decoder(self, rectified=True)

    def fuse(
        self,
        features: Features,
        frames: Float[Array, "B H W 3"] | None,
        masks: Float[Array, "B N H W"],
        others: Float[Array, "B N H W"],
    ) -> Float[Array, "B N h w C"]:
        """Returns the light aggregation of the frame's features; `frames` are not used."""
        return self.aggregation(features, masks, others)

    def decode(
        self,
        read: Float[Array, "B N h w V"],
        value: Float[Array, "B h w V"],
        features: Features,
        *,
        train: bool = False,
    ) -> Float[Array, "B N H W"]:
        """Returns each object's own probability, before the aggregation over objects.

        With `train`, the dropout of the ASPP takes a random key named "dropout".
        """
        x = self.aspp(_with_value(read, value), train=train)
        return self.decoder(x, features.r3, features.r2)


def _decoder(network: _Network, rectified: bool) -> Decoder:
    return Decoder(network.mdim or network.channels // 4, rectified, network.dtype)


def _with_value(
    read: Float[Array, "B N h w V"], value: Float[Array, "B h w V"]
) -> Float[Array, "B N h w D"]:
    """Appends the query's value, which is the same for all objects, to each object's readout."""
    same = jnp.broadcast_to(value[:, None], read.shape[:-1] + value.shape[-1:])
    return jnp.concatenate([read.astype(value.dtype), same], axis=-1)
