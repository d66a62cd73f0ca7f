"""A clip model as a stream: the state keeps the last frames and the encoded sentence.

The clip that answers for frame f holds the frames f + (i - target) * stride, i = 0 ... length - 1,
those before the first frame replaced by the first, those after the last by the last, as the input
pipeline does. So the answer for a frame comes `delay` = (length - 1 - target) * stride frames after
it; to have the last `delay` answers of a video, give its last frame `delay` times more.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, UInt8

from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.network import Query


@struct.dataclass
class State:
    """The memory of one stream; its size does not depend on how long the video is.

    Attributes:
      frames: [(length - 1) * stride + 1, H, W, 3] uint8, a ring: frame n lies at n modulo its size.
      count: [] int32, frames seen.
      query: the encoded sentence, leading axis 1.
    """

    frames: Any  # arrays; `jax.eval_shape` and `jax.vmap` put other things here
    count: Any
    query: Query


def delay(config: QvimConfig) -> int:
    """Frames between the newest one and the one answered for."""
    return (config.clip_length - 1 - config.clip_target) * config.clip_stride


def start(config: QvimConfig, query: Query, frame: UInt8[Array, "H W 3"]) -> State:
    """The state after the first frame."""
    capacity = (config.clip_length - 1) * config.clip_stride + 1
    frames = jnp.zeros((capacity, *frame.shape), jnp.uint8).at[0].set(frame)
    return State(frames, jnp.ones((), jnp.int32), query)


def push(state: State, frame: UInt8[Array, "H W 3"]) -> State:
    """The state after one more frame, which takes the oldest one's place."""
    place = state.count % state.frames.shape[0]
    return state.replace(frames=state.frames.at[place].set(frame), count=state.count + 1)


def clip(config: QvimConfig, state: State) -> UInt8[Array, "T H W 3"]:
    """The clip of the frame that is now `delay` frames old."""
    capacity = state.frames.shape[0]
    numbers = state.count - capacity + jnp.arange(config.clip_length) * config.clip_stride
    return state.frames[jnp.maximum(numbers, 0) % capacity]


def answered(config: QvimConfig, state: State) -> Int[Array, ""]:
    """The number of the frame that `clip` is for; negative before there is one."""
    return state.count - 1 - delay(config)
