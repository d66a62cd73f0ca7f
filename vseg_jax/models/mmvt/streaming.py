"""A clip model as a stream: the state keeps the last frames and the encoded sentence.

The clip that answers for frame f holds the frames f + (i - target) * stride, i = 0 ... length - 1,
those before the first frame replaced by the first, those after the last by the last, as the input
pipeline does. So the answer for a frame comes (length - 1 - target) * stride frames after it.

With the motion stream a frame comes with six channels: its own three, and the picture of the flow
from the frame before it to it. A clip wants the flow from each of its frames to the next, which is
known one frame later, and so the answer comes one frame later too. The first frame's picture is
read by nobody. At the end of a video its last frame, given again, comes with the picture of no
motion, as the last frame of a record does.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, UInt8

from vseg_jax.models.mmvt.config import MmvtConfig
from vseg_jax.models.mmvt.network import Sentence


@struct.dataclass
class State:
    """The memory of one stream; its size does not depend on how long the video is.

    Attributes:
      frames: [N, H, W, 3 or 6] uint8, a ring: frame n lies at n modulo its size.
      count: [] int32, frames seen.
      sentence: encoded, leading axis 1.
    """

    frames: Any  # arrays; `jax.eval_shape` and `jax.vmap` put other things here
    count: Any
    sentence: Sentence


def delay(config: MmvtConfig) -> int:
    """Frames between the newest one and the one answered for."""
    later = (config.clip_length - 1 - config.clip_target) * config.clip_stride
    return later + int(config.motion)


def start(config: MmvtConfig, sentence: Sentence, frame: UInt8[Array, "H W C"]) -> State:
    """The state after the first frame."""
    capacity = (config.clip_length - 1) * config.clip_stride + 1 + int(config.motion)
    frames = jnp.zeros((capacity, *frame.shape), jnp.uint8).at[0].set(frame)
    return State(frames, jnp.ones((), jnp.int32), sentence)


def push(state: State, frame: UInt8[Array, "H W C"]) -> State:
    """The state after one more frame, which takes the oldest one's place."""
    place = state.count % state.frames.shape[0]
    return state.replace(frames=state.frames.at[place].set(frame), count=state.count + 1)


def clip(
    config: MmvtConfig, state: State
) -> tuple[UInt8[Array, "T H W 3"], UInt8[Array, "T H W 3"] | None]:
    """Frames and flow pictures of the clip of the frame that is now `delay` frames old."""
    capacity = state.frames.shape[0]
    numbers = state.count - capacity + jnp.arange(config.clip_length) * config.clip_stride
    numbers = jnp.maximum(numbers, 0)
    frames = state.frames[numbers % capacity][..., :3]
    if not config.motion:
        return frames, None
    return frames, state.frames[(numbers + 1) % capacity][..., 3:]


def answered(config: MmvtConfig, state: State) -> Int[Array, ""]:
    """The number of the frame that `clip` is for; negative before there is one."""
    return state.count - 1 - delay(config)
