"""RAFT (Teed and Deng, ECCV 2020): optical flow by iterative updates on all-pairs correlations.

The networks are those of github.com/princeton-vl/RAFT (commit 2888e15a), `raft-small` and
`raft-large` (the paper's RAFT); section numbers are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from vseg_jax.backbones.raft_flow import (
    STRIDE,
    convex_upsampling,
    correlation_pyramid,
    lookup,
    positions,
)
from vseg_jax.layers.convolution import Conv1x1, he_normal
from vseg_jax.layers.normalization import BatchNorm
from vseg_jax.layers.resize import bilinear

Variant = Literal["small", "large"]
EncoderNorm = Literal["instance", "batch", "none"]


@dataclass(frozen=True)
class _Sizes:
    """Sizes of a variant (from the public raft.py, extractor.py and update.py)."""

    stages: tuple[int, int, int]  # channels of the encoders; the stem has those of the first
    bottleneck: bool
    context_norm: EncoderNorm
    features: int  # channels that are correlated
    hidden: int  # of the recurrent unit
    context: int
    radius: int  # of the lookup
    correlation: tuple[int, ...]  # channels of the motion encoder's convolutions
    flow: tuple[int, int]
    motion: int
    head: int


SIZES = {
    "small": _Sizes((32, 64, 96), True, "none", 128, 96, 64, 3, (96,), (64, 32), 80, 128),
    "large": _Sizes(
        (64, 96, 128), False, "batch", 256, 128, 128, 4, (256, 192), (128, 64), 126, 256
    ),
}


class Raft(nn.Module):
    """Estimates the optical flow from one frame to another.

    Attributes:
      variant: "small" or "large".
      dtype: of the encoders and the update; correlations and flow are at least float32.
    """

    variant: Variant = "large"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        frame1: Shaped[Array, "B H W 3"],
        frame2: Shaped[Array, "B H W 3"],
        iterations: int = 12,
        *,
        every: bool = False,
    ) -> Float[Array, "*I B H W 2"]:
        """Returns the flow in pixels, u to the right and v down, at each position of `frame1`.

        Args:
          frame1: RGB in [0, 255], uint8 or floating, of any size (on sides below 128 pixels, where
            the public code divides by zero, the coarse levels cover little or nothing).
          frame2: the second frame, in the same form.
          iterations: number of updates, 1 or more.
          every: whether to return the flow after every update, in order: [iterations, B, ...].

        Raises:
          ValueError: the variant is unknown, or `iterations` is less than 1.
        """
        if self.variant not in SIZES:
            raise ValueError(f"variant is {self.variant!r}; it must be 'small' or 'large'")
        if iterations < 1:
            raise ValueError(f"iterations is {iterations}; it must be at least 1")
        sizes, (height, width) = SIZES[self.variant], frame1.shape[1:3]
        pads = [(0, 0), _pads(height), _pads(width), (0, 0)]
        # Edges are replicated, evenly on both sides: the public "sintel" mode.
        frames = [
            jnp.pad(2 * (f.astype(jnp.promote_types(f.dtype, jnp.float32)) / 255) - 1, pads, "edge")
            for f in (frame1, frame2)
        ]
        features = Encoder(
            sizes.stages, sizes.bottleneck, sizes.features, "instance", self.dtype, name="features"
        )(jnp.concatenate(frames))
        context = Encoder(
            sizes.stages, sizes.bottleneck, sizes.hidden + sizes.context, sizes.context_norm,
            self.dtype, name="context",
        )(frames[0])
        hidden = jnp.tanh(context[..., : sizes.hidden])
        context = nn.relu(context[..., sizes.hidden :])
        pyramid = correlation_pyramid(*jnp.split(features.astype(frames[0].dtype), 2))
        step = nn.scan(
            Update, variable_broadcast="params", split_rngs={"params": False},
            in_axes=(nn.broadcast, nn.broadcast), length=iterations,
        )(self.variant, every, self.dtype, name="update")
        flow = jnp.zeros((*hidden.shape[:3], 2), frames[0].dtype)
        (hidden, flow), earlier = step((hidden, flow), context, pyramid)
        if every:
            hidden, flow = (x.reshape(-1, *x.shape[2:]) for x in earlier)
        if self.variant == "large":
            mask = nn.relu(_conv(256, (3, 3), self.dtype, "mask1")(hidden))
            mask = 0.25 * Conv1x1(9 * STRIDE**2, dtype=self.dtype, name="mask2")(mask)
            flow = convex_upsampling(flow, mask.astype(flow.dtype))
        else:
            size = STRIDE * flow.shape[1], STRIDE * flow.shape[2]
            flow = STRIDE * bilinear(flow, size, align_corners=True)
        top, left = pads[1][0], pads[2][0]
        flow = flow[:, top : top + height, left : left + width]
        return flow.reshape(iterations, -1, *flow.shape[1:]) if every else flow


class Encoder(nn.Module):
    """A small residual network; returns features at stride 8 (3.1)."""

    stages: tuple[int, int, int]
    bottleneck: bool
    features: int
    norm: EncoderNorm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"]) -> Float[Array, "B h w D"]:
        """Encodes frames scaled to [-1, 1]."""
        x = _conv(self.stages[0], (7, 7), self.dtype, "stem", stride=2)(x)
        x = nn.relu(_norm(self.norm, self.dtype, "stem_norm", x))
        for stage, channels in enumerate(self.stages):
            for block in (0, 1):
                x = Block(
                    channels, 2 if stage > 0 and block == 0 else 1, self.bottleneck, self.norm,
                    self.dtype, name=f"layer{stage + 1}_{block}",
                )(x)
        return Conv1x1(self.features, dtype=self.dtype, name="out")(x)


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 (`bottleneck`), around a residual connection.

    Unlike in ResNet, convolutions have a bias, and a ReLU comes also before the sum.
    """

    features: int
    stride: int
    bottleneck: bool
    norm: EncoderNorm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        """Returns the map of the block."""

        def normed(x: Array, name: str) -> Array:
            return _norm(self.norm, self.dtype, name, x)

        skip = x
        if self.bottleneck:
            inner = self.features // 4
            layers = [
                Conv1x1(inner, dtype=self.dtype, name="conv1"),
                _conv(inner, (3, 3), self.dtype, "conv2", self.stride),
                Conv1x1(self.features, dtype=self.dtype, name="conv3"),
            ]
        else:
            layers = [
                _conv(self.features, (3, 3), self.dtype, "conv1", self.stride),
                _conv(self.features, (3, 3), self.dtype, "conv2"),
            ]
        for number, layer in enumerate(layers, start=1):
            x = nn.relu(normed(layer(x), f"norm{number}"))
        if self.stride > 1:
            strides = (self.stride, self.stride)
            skip = Conv1x1(self.features, strides, dtype=self.dtype, name="skip_conv")(skip)
            skip = normed(skip, "skip_norm")
        return nn.relu(skip + x)


class Update(nn.Module):
    """One update of hidden state and flow (3.3), as the body of `nn.scan`."""

    variant: Variant
    every: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, carry: tuple[Array, Array], context: Array, pyramid: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array] | None]:
        """Returns ((hidden state, flow), the same again where `every` is set)."""
        sizes, (hidden, flow) = SIZES[self.variant], carry
        flow = jax.lax.stop_gradient(flow)
        found = lookup(pyramid, positions(flow), sizes.radius)
        motion = self._motion(sizes, found, flow)
        x = jnp.concatenate([context, motion, flow.astype(self.dtype)], axis=-1)
        # The large variant updates along the rows, then along the columns.
        steps = [("", (3, 3))] if self.variant == "small" else [("1", (1, 5)), ("2", (5, 1))]
        for name, window in steps:
            hidden = self._recurrent(hidden, x, window, name)
        change = nn.relu(_conv(sizes.head, (3, 3), self.dtype, "head1")(hidden))
        flow += _conv(2, (3, 3), self.dtype, "head2")(change).astype(flow.dtype)
        return (hidden, flow), (hidden, flow) if self.every else None

    def _motion(self, sizes: _Sizes, found: Array, flow: Array) -> Array:
        """Encodes the correlations found and the flow so far."""
        first, *more = sizes.correlation
        found = nn.relu(Conv1x1(first, dtype=self.dtype, name="correlation1")(found))
        for channels in more:
            found = nn.relu(_conv(channels, (3, 3), self.dtype, "correlation2")(found))
        flow = nn.relu(_conv(sizes.flow[0], (7, 7), self.dtype, "flow1")(flow))
        flow = nn.relu(_conv(sizes.flow[1], (3, 3), self.dtype, "flow2")(flow))
        both = jnp.concatenate([found, flow], axis=-1)
        return nn.relu(_conv(sizes.motion, (3, 3), self.dtype, "motion")(both))

    def _recurrent(self, hidden: Array, x: Array, window: tuple[int, int], name: str) -> Array:
        """Updates the hidden state by a convolutional GRU (equations 3 to 6)."""

        def conv(gate: str, state: Array) -> Array:
            layer = _conv(hidden.shape[-1], window, self.dtype, gate + name)
            return layer(jnp.concatenate([state, x], axis=-1))

        z, r = nn.sigmoid(conv("z", hidden)), nn.sigmoid(conv("r", hidden))
        return (1 - z) * hidden + z * jnp.tanh(conv("q", r * hidden))


def _pads(length: int) -> tuple[int, int]:
    missing = -length % STRIDE
    return missing // 2, missing - missing // 2


def _conv(
    features: int, window: tuple[int, int], dtype: DTypeLike, name: str, stride: int = 1
) -> nn.Conv:
    return nn.Conv(
        features, window, strides=stride, padding=[(n // 2, n // 2) for n in window],
        kernel_init=he_normal, dtype=dtype, name=name,
    )


def _norm(norm: EncoderNorm, dtype: DTypeLike, name: str, x: Array) -> Array:
    """Applies InstanceNorm2d without parameters, BatchNorm2d in evaluation mode, or nothing."""
    if norm == "batch":
        return BatchNorm("frozen", dtype=dtype, name=name)(x, train=False)
    if norm == "none":
        return x
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = wide.mean(axis=(1, 2), keepdims=True)
    var = jnp.square(wide - mean).mean(axis=(1, 2), keepdims=True)
    return ((wide - mean) * jax.lax.rsqrt(var + 1e-5)).astype(dtype)
