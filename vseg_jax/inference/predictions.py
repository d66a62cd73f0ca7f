"""The segmentations of a whole video, computed while they are consumed."""

from __future__ import annotations

import collections
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vseg_jax.inference.backward import Backward
from vseg_jax.inference.places import check_frame
from vseg_jax.inference.prompts.masks import check_mask
from vseg_jax.inference.segmentation import EXCLUSIVE, Segmentation, Track
from vseg_jax.inference.session import Session

Start = Callable[[np.ndarray, np.ndarray | None, Any, int], Session]


class Predictions(Iterator[Segmentation]):
    """An iterator over the segmentations of a video's frames, in order.

    One frame is in flight: while the host resizes the masks of a frame, the device computes the
    next one.
    """

    def __init__(
        self, start: Start, frames: Iterator[np.ndarray], masks: Mapping[int, np.ndarray],
        audio: Iterator[Any], *, both_directions: bool = False,
    ) -> None:
        """Reads the first frame; also segments it, unless the first mask is that of a later one.

        Args:
          start: returns a session of one stream from its first frame, its mask or None, its audio
            and its number.
          frames: of the video.
          masks: mask prompts by frame number. Frames before the first of them have no object.
          audio: what comes with each of `frames`; does not end before them.
          both_directions: see `Segmenter.segment`.

        Raises:
          ValueError: there is no frame, or the first frame or a mask cannot be used.
        """
        first = next(frames, None)
        if first is None:
            raise ValueError("the video has no frame; give at least one")
        check_frame(first, None, 0)
        masks = {number: check_mask(mask, first.shape[:2], number)   # now, not when its frame comes
                 for number, mask in masks.items()}
        self._start, self._audio = start, audio
        self._session: Session | None = None
        if 0 in masks or not masks:
            self._session = start(first, masks.get(0), next(audio), 0)
        frames = itertools.chain([first], frames)
        self._segmentations = (self._in_both_directions(frames, masks) if both_directions
                               else self._forward(frames, masks))

    def __next__(self) -> Segmentation:
        return next(self._segmentations)

    def summary(self) -> list[Track]:
        """Returns category and score of each object found so far; see `Session.summary`."""
        if self._session is None:
            return []
        return self._session.summary()

    def _in_both_directions(
        self, frames: Iterator[np.ndarray], masks: Mapping[int, np.ndarray]
    ) -> Iterator[Segmentation]:
        backward = Backward(self._start, frames, masks)
        for segmentation in self._forward(itertools.chain(backward.frames(), frames), masks):
            yield backward.added_to(segmentation)

    def _forward(
        self, frames: Iterator[np.ndarray], masks: Mapping[int, np.ndarray]
    ) -> Iterator[Segmentation]:
        session, first, count = self._session, min(masks, default=0), 0
        size: tuple[int, int] | None = None
        waiting: collections.deque[Any] = collections.deque()
        for number, frame in enumerate(frames):
            count = number + 1
            if number < first:
                check_frame(frame, size, number)
                size = frame.shape[:2]
                next(self._audio)
                yield _without_objects(number, frame)
                continue
            if number == first:
                if session is None:
                    check_frame(frame, size, number)
                    session = self._start(frame, masks[first], next(self._audio), first)
                    self._session = session
                if session.first is not None:
                    yield session.first
                continue
            assert session is not None   # it starts at `first`
            mask = masks.get(number)
            waiting.append(session.push([frame], None if mask is None else [mask],
                                        audio=[next(self._audio)]))
            if len(waiting) > 1:
                yield from (s for s in session.collect(waiting.popleft()) if s)
        if session is not None:
            for outputs in waiting:
                yield from (s for s in session.collect(outputs) if s)
            yield from session.finish()
        unused = [str(number) for number in sorted(masks) if number >= count]
        if unused:
            warnings.warn(f"masks of frames {', '.join(unused)} were not used: the video has no "
                          "such frames", stacklevel=2)


def _without_objects(number: int, frame: np.ndarray) -> Segmentation:
    """Returns the segmentation of a frame before the first mask."""
    return Segmentation(number, frame, np.zeros((0, *frame.shape[:2]), np.float32),
                        np.zeros(0, np.float32), EXCLUSIVE)
