"""The model as a stream: the state keeps the encoded sentence and the frames that are looked at.

A ResNet looks at the answered frame alone and answers without delay. I3D looks at the clip that the
input pipeline would cut, the first frame standing in for those before it; its answer for a frame
comes `delay` frames after it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, UInt8

from vseg_jax.models.cvls.config import CvlsConfig


@struct.dataclass
class State:
    """The memory of one stream; its size does not depend on how long the video is.

    Attributes:
      frames: [N, H, W, 3] uint8, a ring: frame n of the video lies at n modulo N.
      count: [] int32, frames seen.
      sentence: [1, C], l.
    """

    frames: Any  # arrays; `jax.eval_shape` and `jax.vmap` put other things here
    count: Any
    sentence: Any


def clip_shape(config: CvlsConfig) -> tuple[int, int, int]:
    """Length, stride and target of the clip that an answer takes."""
    if config.backbone == "i3d":
        return config.clip_length, config.clip_stride, config.clip_target
    return 1, 1, 0


def delay(config: CvlsConfig) -> int:
    """Frames between the newest one and the one answered for."""
    length, stride, target = clip_shape(config)
    return (length - 1 - target) * stride


def start(
    config: CvlsConfig, sentence: Float[Array, "1 C"], frame: UInt8[Array, "H W 3"]
) -> State:
    """The state after the first frame."""
    length, stride, _ = clip_shape(config)
    frames = jnp.zeros(((length - 1) * stride + 1, *frame.shape), jnp.uint8).at[0].set(frame)
    return State(frames, jnp.ones((), jnp.int32), sentence)


def push(state: State, frame: UInt8[Array, "H W 3"]) -> State:
    """The state after one more frame, which takes the oldest one's place."""
    place = state.count % state.frames.shape[0]
    return state.replace(frames=state.frames.at[place].set(frame), count=state.count + 1)


def clip(config: CvlsConfig, state: State) -> tuple[UInt8[Array, "T H W 3"], jax.Array]:
    """The newest whole clip, and the number of the frame it is for (negative: of none yet)."""
    length, stride, _ = clip_shape(config)
    capacity = state.frames.shape[0]
    numbers = state.count - capacity + jnp.arange(length) * stride
    return state.frames[jnp.maximum(numbers, 0) % capacity], state.count - 1 - delay(config)
