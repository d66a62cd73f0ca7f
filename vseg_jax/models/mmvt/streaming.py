"""The clips of mmvt in a stream: see `vseg_jax.layers.window`.

With the motion stream a frame has six channels: its colors, and the picture of the flow from the
previous frame to it. A clip needs the flow from each of its frames to the next one, which is known
one frame later, so the prediction also comes one frame later. The flow picture of the first frame
is not used. At the end of a video the repeated last frame has the picture of no motion, like the
last frame of a record.
"""

from __future__ import annotations

from jaxtyping import Array, UInt8

from vseg_jax.layers.window import State, look_up
from vseg_jax.models.mmvt.config import MmvtConfig


def clip(
    config: MmvtConfig, state: State
) -> tuple[UInt8[Array, "T H W 3"], UInt8[Array, "T H W 3"] | None]:
    """Returns frames and flow pictures of the clip for the window's target frame."""
    numbers = config.window.numbers(state)
    frames = look_up(state, numbers)[..., :3]
    return frames, look_up(state, numbers + 1)[..., 3:] if config.motion else None
