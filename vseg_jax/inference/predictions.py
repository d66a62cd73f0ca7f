"""The segmentations of a whole video, computed while they are consumed."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from vseg_jax.inference.segmentation import Segmentation, Track
from vseg_jax.inference.session import Session


class Predictions(Iterator[Segmentation]):
    """An iterator over the segmentations of a video's frames, in order.

    One frame is in flight: while the host resizes the masks of a frame, the device computes the
    next one.
    """

    def __init__(self, session: Session, frames: Iterator[np.ndarray],
                 masks: dict[int, np.ndarray], audio: Iterator[Any]) -> None:
        """Reads nothing yet.

        Args:
          session: of one stream that has seen the first frame.
          frames: the frames after it.
          masks: mask prompts by frame number, from 1; emptied as the frames come.
          audio: what comes with each of `frames`; does not end before them.
        """
        self._session = session
        self._segmentations = self._run(frames, masks, audio)

    def __next__(self) -> Segmentation:
        return next(self._segmentations)

    def summary(self) -> list[Track]:
        """Returns category and score of each object found so far; see `Session.summary`."""
        return self._session.summary()

    def _run(self, frames: Iterator[np.ndarray], masks: dict[int, np.ndarray],
             audio: Iterator[Any]) -> Iterator[Segmentation]:
        session = self._session
        waiting: collections.deque[Any] = collections.deque()
        if session.first is not None:
            yield session.first
        for number, frame in enumerate(frames, 1):
            mask = masks.pop(number, None)
            waiting.append(session.push([frame], None if mask is None else [mask],
                                        audio=[next(audio)]))
            if len(waiting) > 1:
                yield from (s for s in session.collect(waiting.popleft()) if s)
        for outputs in waiting:
            yield from (s for s in session.collect(outputs) if s)
        yield from session.finish()
        if masks:
            warnings.warn(f"masks of frames {', '.join(map(str, sorted(masks)))} were not used: "
                          "the video has no such frames", stacklevel=2)
