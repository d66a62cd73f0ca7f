"""A clip model as a stream: a state of fixed size with the last frames and the encoded prompt.

The clip that answers for frame f holds the frames f + (i - target) * stride, i = 0 ... length - 1,
those before the first frame replaced by the first, those after the last by the last, as the input
pipeline does. So the answer for a frame comes `delay` frames after it; to have the last `delay`
answers of a video, give its last frame `delay` times more.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, UInt8


@struct.dataclass
class State:
    """The memory of one stream; it does not depend on how long the video is.

    Attributes:
      frames: [Window.capacity, H, W, C] uint8, a ring: frame n lies at n modulo its size.
      count: [] int32, frames seen.
      query: the encoded sentence, leading axis 1.
    """

    frames: Any  # arrays; `jax.eval_shape` and `jax.vmap` put other things here
    count: Any
    query: Any


@dataclasses.dataclass(frozen=True)
class Window:
    """Which frames a clip takes.

    Attributes:
      length, stride, target: see above.
      ahead: frames that must have been seen beyond the clip's last one.
    """

    length: int
    stride: int
    target: int
    ahead: int = 0

    @property
    def capacity(self) -> int:
        """Frames that are kept."""
        return (self.length - 1) * self.stride + 1 + self.ahead

    @property
    def delay(self) -> int:
        """Frames between the newest one and the one answered for."""
        return (self.length - 1 - self.target) * self.stride + self.ahead

    def start(self, frame: UInt8[Array, "H W C"], query: Any) -> State:
        """The state after the first frame."""
        frames = jnp.zeros((self.capacity, *frame.shape), jnp.uint8).at[0].set(frame)
        return State(frames, jnp.ones((), jnp.int32), query)

    def numbers(self, state: State) -> Int[Array, " T"]:
        """Which frames the clip of the frame that is now `delay` frames old takes."""
        first = state.count - self.capacity
        return jnp.maximum(first + jnp.arange(self.length) * self.stride, 0)

    def clip(self, state: State) -> UInt8[Array, "T H W C"]:
        """That clip."""
        return look_up(state, self.numbers(state))

    def predicted(self, state: State) -> Int[Array, ""]:
        """The number of the frame that the clip is for; negative before there is one."""
        return state.count - 1 - self.delay


def push(state: State, frame: UInt8[Array, "H W C"]) -> State:
    """The state after one more frame, which takes the oldest one's place."""
    place = state.count % state.frames.shape[0]
    return state.replace(frames=state.frames.at[place].set(frame), count=state.count + 1)


def look_up(state: State, numbers: Int[Array, " T"]) -> UInt8[Array, "T H W C"]:
    """Frames by their numbers, which must still be kept."""
    return state.frames[numbers % state.frames.shape[0]]
