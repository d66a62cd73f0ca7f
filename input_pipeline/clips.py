"""Which frames of a video a sample takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def clip_frames(target_frame: int, video_length: int, length: int, stride: int | np.ndarray,
                target: int) -> np.ndarray:
    """Returns the frame numbers of a clip, int64 [length], with `target_frame` at index `target`.

    `stride` is the step from each frame of the clip to the next: one number, or [length - 1].
    Beyond the ends of the video its first or last frame is repeated.
    """
    places = np.cumsum([0, *np.broadcast_to(stride, length - 1)])
    return np.clip(target_frame + places - places[target], 0, video_length - 1)


def propagation_frames(
    annotated: Sequence[int], starts: Sequence[int], length: int, skip: int,
    rng: np.random.Generator,
) -> list[int]:
    """Returns `length` annotated frames, in order, as a training clip of mask propagation.

    Between two of them at most `skip` frames of the video are left out; in videos with every k-th
    frame annotated, at most `skip // k` annotated frames. STM's training does the same.

    Args:
      annotated: numbers of the annotated frames, in order.
      starts: indices into `annotated` where a clip may start; at least `length - 1` more follow.
      length: frames of the clip.
      skip: see above.
      rng: randomness.
    """
    skip //= max(1, min(np.diff(annotated), default=1))
    places = [int(rng.choice(starts))]
    for left in range(length - 2, -1, -1):
        last = min(len(annotated) - 1 - left, places[-1] + 1 + skip)
        places.append(int(rng.integers(places[-1] + 1, last, endpoint=True)))
    return [annotated[place] for place in places]
