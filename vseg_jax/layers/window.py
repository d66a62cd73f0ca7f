"""The sliding window of a clip model in a stream: a state of fixed size with the last frames.

The clip for frame f holds the frames f + (i - target) * stride, i = 0 ... length - 1. Frames before
the first are replaced by the first and frames after the last by the last, as in the input pipeline.
The prediction for a frame therefore comes `delay` frames after it. To get the last `delay`
predictions of a video, repeat its last frame `delay` times.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, UInt8


@struct.dataclass
class State:
    """The memory of one stream. Its size does not depend on the length of the video.

    Attributes:
      frames: [Window.capacity, H, W, C] uint8, a ring buffer: frame n is stored at n modulo its
        length.
      count: [] int32, number of frames seen.
      query: the encoded query, leading axis 1.
    """

    frames: Any  # arrays; `jax.eval_shape` and `jax.vmap` put other things here
    count: Any
    query: Any


@dataclasses.dataclass(frozen=True)
class Window:
    """The frames of a clip, relative to the frame that the clip predicts.

    Attributes:
      length: number of frames in the clip.
      stride: distance between neighboring frames of the clip.
      target: position of the predicted frame in the clip.
      ahead: number of frames that must have been seen after the clip's last one.

    Raises:
      ValueError: `target` is not a position in the clip.
    """

    length: int
    stride: int
    target: int
    ahead: int = 0

    def __post_init__(self):
        if not 0 <= self.target < self.length:
            raise ValueError(
                f"clip_target {self.target} is not a position in a clip of {self.length} frames; "
                "count from 0"
            )

    @property
    def capacity(self) -> int:
        """Number of frames that the state keeps."""
        return (self.length - 1) * self.stride + 1 + self.ahead

    @property
    def delay(self) -> int:
        """Number of frames between the newest frame and the predicted one."""
        return (self.length - 1 - self.target) * self.stride + self.ahead

    def start(self, frame: UInt8[Array, "H W C"], query: Any) -> State:
        """Returns the state after the first frame."""
        frames = jnp.zeros((self.capacity, *frame.shape), jnp.uint8).at[0].set(frame)
        return State(frames, jnp.ones((), jnp.int32), query)

    def numbers(self, state: State) -> Int[Array, " T"]:
        """Returns the numbers of the frames in the clip that predicts `target_frame`."""
        first = state.count - self.capacity
        return jnp.maximum(first + jnp.arange(self.length) * self.stride, 0)

    def clip(self, state: State) -> UInt8[Array, "T H W C"]:
        """Returns the clip that predicts `target_frame`."""
        return look_up(state, self.numbers(state))

    def target_frame(self, state: State) -> Int[Array, ""]:
        """Returns the number of the frame that the clip predicts; negative while there is none."""
        return state.count - 1 - self.delay


def push(state: State, frame: UInt8[Array, "H W C"]) -> State:
    """Returns the state after one more frame, which replaces the oldest one."""
    place = state.count % state.frames.shape[0]
    return state.replace(frames=state.frames.at[place].set(frame), count=state.count + 1)


def look_up(state: State, numbers: Int[Array, " T"]) -> UInt8[Array, "T H W C"]:
    """Returns the frames with these numbers, which the state must still keep."""
    return state.frames[numbers % state.frames.shape[0]]
