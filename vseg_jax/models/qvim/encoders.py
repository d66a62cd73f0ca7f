"""Encoders of the clip and of the referring expression (Section 3.2, A.2)."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.backbones import efficientnet
from vseg_jax.backbones.hooks import Change, unchanged
from vseg_jax.backbones.i3d import ENDS, I3D
from vseg_jax.backbones.resnet import ResNet
from vseg_jax.layers.normalization import imagenet_colors
from vseg_jax.models.qvim.config import SCALES, QvimConfig
from vseg_jax.text.bert import Bert
from vseg_jax.text.recurrent import Gru, WordEmbedding

# Where the compared methods act in a backbone, by their papers and public code (the commits are in
# docs/papers/qvim.md). Those of AdaIN and SFA are inferred, and so are I3D's: they are the
# counterparts of the ResNet's at the same stride. RobustNet's public ShuffleNet, which concatenates
# branches as I3D does, is normalized after the ReLU, too.
_STYLES = {"resnet": ("layer1", "layer2"), "i3d": ("conv_2c", "mixed_3c")}
_ROBUSTNET = {
    "resnet": ("norm1", "layer1_sum", "layer2_sum"),
    "i3d": ("conv_1a_norm", "conv_2c", "mixed_3c"),
}
PLACES = {
    "mixstyle": _STYLES,
    "adain": _STYLES,
    "dsu": {
        "resnet": ("conv1", "pool", "layer1", "layer2", "layer3", "layer4"),
        "i3d": ("conv_1a_conv", "pool_2a", "conv_2c", "mixed_3c", "mixed_4f", "mixed_5c"),
    },
    "sfa": {"resnet": ("layer4",), "i3d": ("mixed_5c",)},
    "in": _ROBUSTNET,
    "irw": _ROBUSTNET,
    "isw": _ROBUSTNET,
}


def method_places(config: QvimConfig) -> tuple[str, ...]:
    """Returns the places in the backbone where the compared method acts, the earliest first."""
    if not config.compared.in_backbone:
        return ()
    return PLACES[config.compared.method]["i3d" if config.backbone == "i3d" else "resnet"]


class VisualEncoder(nn.Module):
    """Frames to K = 5 maps without a time axis, the largest first (Section 3.2).

    I3D reads colors in [-1, 1], as DeepMind's weights expect (inferred).
    """

    config: QvimConfig

    @nn.compact
    def __call__(
        self,
        frames: UInt8[Array, "B T H W 3"],
        target: Int[Array, " B"],
        *,
        train: bool,
        feedback: Callable[[int, jax.Array], jax.Array] | None = None,
        change: Change | None = None,
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        """Encodes the clip.

        Args:
          frames: the clip.
          target: position of the target frame, for `temporal_pool` "middle".
          train: see `BatchNorm`.
          feedback: (k, stage) -> the input of I3D's stage k + 1.
          change: (place, features [B, S, H, W, C]) -> the features with which the backbone
            continues; called at `method_places(config)`.
        """
        c = self.config
        dtype = jnp.dtype(c.dtype)
        if c.backbone == "i3d":
            clip = 2 * (frames.astype(dtype) / 255) - 1
            network = I3D(SCALES, c.i3d_width, c.backbone_norm, c.i3d_eps, dtype, name="i3d")
            places = method_places(c) if change is not None else ()

            def continue_with(place: str, x: jax.Array) -> jax.Array:
                if place in places:
                    x = change(place, x)
                if feedback is not None and place in ENDS:
                    x = feedback(ENDS.index(place) + 1, x)
                return x

            stages = network(clip, train=train, change=continue_with)
        else:
            stages = self._per_frame(frames, dtype, train, change)
        return tuple(pool_time(s, target, frames.shape[1], c.temporal_pool) for s in stages)

    def _per_frame(
        self, frames: UInt8[Array, "B T H W 3"], dtype: DTypeLike, train: bool,
        change: Change | None,
    ) -> tuple[Float[Array, "B T _ _ _"], ...]:
        """Returns five maps of every frame, with the time axis: a ResNet's stem and stages, or the
        maps of an EfficientNet-Lite0, divided by their usual scale."""
        c = self.config
        images = frames.reshape(-1, *frames.shape[2:])
        if c.backbone == "efficientnet_lite0":
            lite = efficientnet.EfficientNetLite(norm=c.backbone_norm, dtype=dtype, name="lite")
            maps = lite(imagenet_colors(images, dtype, efficientnet.COLORS), train=train)
            return tuple(x.reshape(*frames.shape[:2], *x.shape[1:]) / scale
                         for x, scale in zip(maps, efficientnet.SCALES, strict=True))
        images = imagenet_colors(images, dtype)
        network = ResNet(
            int(c.backbone.removeprefix("resnet")), stem=True, width=c.resnet_width,
            norm=c.backbone_norm, dtype=dtype, name="resnet",
        )

        def clips(x: jax.Array) -> jax.Array:
            return x.reshape(*frames.shape[:2], *x.shape[1:])

        def change_clips(place: str, x: jax.Array) -> jax.Array:
            return change(place, clips(x)).reshape(x.shape) if place in method_places(c) else x

        stages = network(images, train=train, change=change_clips if change else unchanged)
        return tuple(clips(x) for x in stages)


def pool_time(
    stage: Float[Array, "B S H W C"], target: Int[Array, " B"], length: int, how: str
) -> Float[Array, "B H W C"]:
    """Pools the S maps that a stage makes of `length` frames: their mean, or the target's map."""
    if how == "mean":
        return stage.mean(axis=1)
    index = (target * stage.shape[1]) // length
    return jnp.take_along_axis(stage, index[:, None, None, None, None], axis=1)[:, 0]


class TextEncoder(nn.Module):
    """Tokens to word features Q and the query vector q.

    Q is BERT's output (or a learned embedding) in C channels, zero for padding; q is the state of a
    GRU after the last word ("q is the RNN output from Q", Section 3.2).
    """

    config: QvimConfig

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B L"], valid: Bool[Array, "B L"], *, train: bool
    ) -> tuple[Float[Array, "B L C"], Float[Array, "B C"]]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        if c.text == "bert":
            words, _ = Bert(c.bert, dtype, name="bert")(tokens, valid, train=train)
        else:
            words = WordEmbedding(c.vocabulary, c.word_width, dtype, name="embedding")(tokens)
        # Words are initialized larger than features: U of Eq. 7 is a mean over the words, and a
        # color is one of about six. With the usual initialization the expression has no effect for
        # hundreds of steps (inferred).
        large = nn.initializers.variance_scaling(25.0, "fan_in", "normal")
        words = nn.Dense(c.channels, dtype=dtype, kernel_init=large, name="project")(words)
        words = jnp.where(valid[..., None], words, 0)
        # Large inputs close the gates of a GRU at random, and q would depend on little but the last
        # word. With this memory q is initially a mean over the words (inferred).
        _, query = Gru(c.channels, dtype, memory=0.8, name="gru")(words, valid)
        return words, query
