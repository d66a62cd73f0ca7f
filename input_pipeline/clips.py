"""Which frames a sample takes."""

from __future__ import annotations

import numpy as np


def clip_frames(target_frame: int, video_length: int, length: int, stride: int,
                target: int) -> np.ndarray:
    """Frame numbers of a clip: int64 [length], with `target_frame` at place `target`.

    Where the clip would reach beyond the video, the first or last frame is repeated.
    """
    offsets = (np.arange(length) - target) * stride
    return np.clip(target_frame + offsets, 0, video_length - 1)
