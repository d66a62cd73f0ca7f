"""The network: backbone, audio encoder, fusion, decoders."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from vseg_jax.backbones import efficientnet
from vseg_jax.backbones.resnet import ResNet
from vseg_jax.backbones.swin import SIZES, Swin
from vseg_jax.backbones.vggish import Vggish
from vseg_jax.layers.normalization import IMAGENET, imagenet_colors
from vseg_jax.layers.resize import bilinear
from vseg_jax.models.rcf.config import STRIDE, RcfConfig
from vseg_jax.models.rcf.fusion import Fusion
from vseg_jax.models.rcf.pixel_decoder import Heads, MaskDecoder
from vseg_jax.models.rcf.transformer import Decoder

Pyramid = tuple[Float[Array, "B _ _ _"], ...]


class Output(NamedTuple):
    """Results for one frame; jit drops those that are not used.

    Attributes:
      classes: logits of K categories and "no object" for each requested decoder layer, in order.
      masks: logits at stride 4 of the padded frame, for the same layers.
      weight: W of Eq. 2; None without one.
    """

    classes: Float[Array, "D B N K"]
    masks: Float[Array, "D B N h w"]
    weight: Float[Array, "B H W"] | None


class Network(nn.Module):
    """Maps a frame, the features of its references and their audio to N instance slots."""

    config: RcfConfig

    def setup(self):
        c = self.config
        dtype = jnp.dtype(c.dtype)
        if c.backbone == "resnet":
            self.backbone = ResNet(
                c.depth, width=c.width, norm=c.backbone_norm, last_stride=c.fuse_stride // 16,
                dtype=dtype,
            )
        elif c.backbone == "efficientnet_lite0":
            self.backbone = efficientnet.EfficientNetLite(norm=c.backbone_norm, dtype=dtype)
        else:
            self.backbone = Swin(
                **SIZES[c.swin], window=c.window, drop_path=c.drop_path, dtype=dtype
            )
        if c.audio:
            self.vggish = Vggish(c.vggish_width, c.audio_features, dtype=dtype)
        self.fusion = Fusion(c)
        self.mask_decoder = MaskDecoder(
            c.pixel_channels or c.channels, c.mask_channels, c.coordinates, dtype
        )
        self.decoder = Decoder(
            c.queries, c.decoder_layers, c.heads, c.hidden, c.dropout, dtype
        )
        self.head = Heads(c.categories, c.class_pooling, dtype)

    def full(
        self,
        frame: UInt8[Array, "B H W 3"],
        patch: Float[Array, "B 96 64"] | None,
        *,
        train: bool,
    ) -> Output:
        """Runs every part, with each frame as its own reference; for `init`."""
        c, valid = self.config, None
        pyramid, audio = self.encode(frame, train=train), None
        if c.audio:
            audio = jnp.repeat(self.encode_audio(patch)[:, None], 1 + c.references, axis=1)
            valid = jnp.ones(audio.shape[:2], bool)
        references = jnp.repeat(pyramid[-1][:, None], c.references, axis=1)
        return self(pyramid, references, audio, valid, train=train)

    def encode(self, frames: UInt8[Array, "B H W 3"], *, train: bool) -> Pyramid:
        """Returns maps at strides 4, 8, 16 and `fuse_stride` of frames padded to 32."""
        c = self.config
        if c.backbone != "efficientnet_lite0":
            return self.backbone(prepare(frames).astype(c.dtype), train=train)
        colors = prepare(frames, efficientnet.COLORS).astype(c.dtype)
        maps = zip(self.backbone(colors, train=train), efficientnet.SCALES, strict=True)
        *finer, x16, x32 = [x / scale for x, scale in maps][1:]
        if c.fuse_stride == 16:
            x32 = jnp.concatenate([x16, bilinear(x32, x16.shape[1:3], align_corners=False)], -1)
        return (*finer, x16, x32)

    def encode_audio(self, patches: Float[Array, "B 96 64"]) -> Float[Array, "B A"]:
        """Returns VGGish's features of log-mel patches."""
        features = self.vggish(patches)
        return jax.lax.stop_gradient(features) if self.config.vggish_frozen else features

    def __call__(
        self,
        pyramid: Pyramid,
        references: Float[Array, "B R h w C"] | None,
        audio: Float[Array, "B S A"] | None,
        audio_valid: Bool[Array, "B S"] | None,
        *,
        train: bool,
        layers: bool = False,
    ) -> Output:
        """Returns the slots of the target frame.

        Args:
          pyramid: of the target.
          references: last maps of the frames before it, the newest first.
          audio: features of the references, the oldest first, and of the target.
          audio_valid: which frames have audio.
          train: whether dropout is applied.
          layers: whether to return the results of all decoder layers, not only of the last.
        """
        fused = self.fusion(pyramid[-1], references, audio, audio_valid, train=train)
        maps = self.mask_decoder(fused.target, pyramid[:-1])
        codes = self.decoder(fused.tokens, fused.positions, fused.mask, train=train)
        classes, masks = self.head(codes if layers else codes[-1:], maps)
        return Output(classes, masks, fused.weight)


def prepare(
    frames: UInt8[Array, "*B H W 3"],
    colors: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
) -> Float[Array, "*B h w 3"]:
    """Normalizes frames, then pads them below and on the right with zeros, as detectron2 does.

    `colors` are the mean and the deviation of the colors, in [0, 1].
    """
    x = imagenet_colors(frames, colors=colors)
    below, right = (-n % STRIDE for n in frames.shape[-3:-1])
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(0, below), (0, right), (0, 0)])
