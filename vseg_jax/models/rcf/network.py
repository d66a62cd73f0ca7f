"""The network: backbone, hearing, fusion, decoders."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from vseg_jax.backbones.resnet import ResNet
from vseg_jax.backbones.swin import SIZES, Swin
from vseg_jax.backbones.vggish import Vggish
from vseg_jax.layers.normalization import imagenet_colors
from vseg_jax.models.rcf.config import STRIDE, RcfConfig
from vseg_jax.models.rcf.fusion import Fusion
from vseg_jax.models.rcf.pixel_decoder import Heads, MaskDecoder
from vseg_jax.models.rcf.transformer import Decoder

Pyramid = tuple[Float[Array, "B _ _ _"], ...]


class Output(NamedTuple):
    """Named results for one frame; what nobody reads, jit prunes.

    Attributes:
      classes: logits of K categories and no object, of each decoder layer asked for, the last last.
      masks: logits at stride 4 of the padded picture, likewise.
      weight: W of Eq. 2, where there is one.
    """

    classes: Float[Array, "D B N K"]
    masks: Float[Array, "D B N h w"]
    weight: Float[Array, "B H W"] | None


class Network(nn.Module):
    """A frame, the maps of those before it, and their sound, to N instance slots."""

    config: RcfConfig

    def setup(self):
        c = self.config
        dtype = jnp.dtype(c.dtype)
        if c.backbone == "resnet":
            self.backbone = ResNet(c.depth, width=c.width, norm=c.backbone_norm, dtype=dtype)
        else:
            self.backbone = Swin(
                **SIZES[c.swin], window=c.window, drop_path=c.drop_path, dtype=dtype
            )
        if c.audio:
            self.vggish = Vggish(c.vggish_width, c.audio_features, dtype=dtype)
        self.fusion = Fusion(c)
        self.mask_decoder = MaskDecoder(c.channels, c.mask_channels, dtype)
        self.decoder = Decoder(
            c.queries, c.decoder_layers, c.heads, c.hidden, c.dropout, dtype
        )
        self.head = Heads(c.categories, dtype)

    def full(
        self,
        frame: UInt8[Array, "B H W 3"],
        patch: Float[Array, "B 96 64"] | None,
        *,
        train: bool,
    ) -> Output:
        """All parts in turn, each frame being its own past: for `init`."""
        c, valid = self.config, None
        pyramid, audio = self.encode(frame, train=train), None
        if c.audio:
            audio = jnp.repeat(self.hear(patch)[:, None], 1 + c.references, axis=1)
            valid = jnp.ones(audio.shape[:2], bool)
        references = jnp.repeat(pyramid[-1][:, None], c.references, axis=1)
        return self(pyramid, references, audio, valid, train=train)

    def encode(self, frames: UInt8[Array, "B H W 3"], *, train: bool) -> Pyramid:
        """Maps at strides 4, 8, 16 and 32 of frames padded to multiples of 32."""
        return self.backbone(prepare(frames).astype(self.config.dtype), train=train)

    def hear(self, patches: Float[Array, "B 96 64"]) -> Float[Array, "B A"]:
        """What VGGish says of log-mel patches."""
        heard = self.vggish(patches)
        return jax.lax.stop_gradient(heard) if self.config.vggish_frozen else heard

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
        """Slots of the target frame.

        Args:
          pyramid: of the target.
          references: last maps of the frames before it, the newest first.
          sound: of the references, the oldest first, and the target.
          sound_valid: which frames have sound.
          train: whether layers drop.
          layers: whether all decoder layers answer, and not the last alone.
        """
        fused = self.fusion(pyramid[-1], references, audio, audio_valid, train=train)
        maps = self.mask_decoder(fused.target, pyramid[:-1])
        codes = self.decoder(fused.tokens, fused.positions, fused.mask, train=train)
        classes, masks = self.head(codes if layers else codes[-1:], maps)
        return Output(classes, masks, fused.weight)


def prepare(frames: UInt8[Array, "*B H W 3"]) -> Float[Array, "*B h w 3"]:
    """Frames normalized, then padded below and on the right with zeros, as detectron2 does."""
    x = imagenet_colors(frames)
    below, right = (-n % STRIDE for n in frames.shape[-3:-1])
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(0, below), (0, right), (0, 0)])
