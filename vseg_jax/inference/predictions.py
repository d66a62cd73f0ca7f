"""The segmentations of a whole video, computed while they are consumed."""

from __future__ import annotations

import collections
import itertools
import tempfile
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from typing import Any

import numpy as np

from vseg_jax.inference.backward import Backward, Spool
from vseg_jax.inference.places import check_frame
from vseg_jax.inference.prompts.masks import check_capacity, check_prompts, in_order
from vseg_jax.inference.segmentation import EXCLUSIVE, Segmentation, Track
from vseg_jax.inference.session import Session

Rest = Callable[[Session | None], bool]
Start = Callable[[np.ndarray, np.ndarray | None, Any, int, int], Session]


class Predictions(Iterator[Segmentation]):
    """An iterator over the segmentations of a video's frames, in order.

    One frame is in flight: while the host resizes the masks of a frame, the device computes the
    next one.

    Attributes:
      stopped: whether `rest` has ended it before the last frame.
    """

    def __init__(
        self, start: Start, frames: Iterator[np.ndarray], masks: Mapping[int, np.ndarray],
        objects: Mapping[int, Collection[int]], audio: Iterator[Any], *,
        both_directions: bool = False, session: Session | None = None, capacity: int = 0,
    ) -> None:
        """Reads the first frame; also segments it, unless the first mask is that of a later one.

        Args:
          start: returns a session of one stream from its first frame, its mask or None, its audio,
            its number, and 1 or -1 for frames in reverse order. It does not warn of gaps in ids.
          frames: of the video.
          masks: mask prompts by frame number. Frames before the first of them have no object.
          objects: see `Segmenter.segment`.
          audio: what comes with each of `frames`; does not end before them.
          both_directions: see `Segmenter.segment`.
          session: that has segmented the beginning of the video already; goes on after it.
          capacity: with masks: how many objects the model takes.

        Raises:
          ValueError: there is no frame, or the first frame or a mask cannot be used.
        """
        first = next(frames, None)
        if first is None:
            raise ValueError("the video has no frame; give at least one")
        check_frame(first, None, 0)
        # Now, not when their frames come.
        self._prompts = check_prompts(masks, objects, first.shape[:2])
        self._in_order = in_order(sorted(self._prompts.items()))
        self._start, self._audio = start, audio
        if masks:
            check_capacity({n: prompt.mask for n, prompt in self._in_order.items()}, capacity)
        self._session = session
        self._begin = 0 if session is None else session.next_frame
        self.stopped = False
        self._rest: Rest | None = None
        self._at_errors: Rest | None = None
        if session is not None:
            pass   # it has seen its first frame
        elif 0 in self._in_order or not self._in_order:
            mask, _ = self._in_order.get(0, (None, None))
            self._session = start(first, mask, next(audio), 0, 1)
        frames = itertools.chain([first], frames)
        self._segmentations = (self._in_both_directions(frames) if both_directions
                               else self._forward(frames))

    def __next__(self) -> Segmentation:
        return next(self._segmentations)

    def close(self) -> None:
        """Ends the iteration; needed only to delete the temporary file of `both_directions` early.
        """
        self._segmentations.close()

    def rest(self, then: Rest, at_errors: bool = False) -> None:
        """Calls a function when all frames that have been read are segmented.

        Args:
          then: gets the session, None before the first mask; returns whether to stop here.
          at_errors: call it, instead of once, each time that a frame or a mask cannot be used,
            before the error is raised.
        """
        if at_errors:
            self._at_errors = then
        else:
            self._rest = then

    def summary(self) -> list[Track]:
        """Returns category and score of each object found so far; see `Session.summary`."""
        if self._session is None:
            return []
        return self._session.summary()

    def _in_both_directions(
        self, frames: Iterator[np.ndarray]
    ) -> Generator[Segmentation, None, None]:
        with tempfile.TemporaryFile() as file:
            backward = Backward(self._start, frames, self._prompts, Spool(file))
            for segmentation in self._forward(itertools.chain(backward.frames(), frames)):
                yield backward.added_to(segmentation)

    def _forward(self, frames: Iterator[np.ndarray]) -> Generator[Segmentation, None, None]:
        waiting: collections.deque[Any] = collections.deque()
        try:
            yield from self._steps(frames, waiting)
        except ValueError:   # about a frame or its mask; those before it are good
            yield from self._collected(waiting)
            if self._at_errors is not None:
                self._at_errors(self._session)
            raise

    def _collected(self, waiting: collections.deque[Any]) -> Generator[Segmentation, None, None]:
        """Yields the segmentations of frames in flight."""
        while waiting:
            assert self._session is not None
            yield from (s for s in self._session.collect(waiting.popleft()) if s)

    def _steps(
        self, frames: Iterator[np.ndarray], waiting: collections.deque[Any]
    ) -> Generator[Segmentation, None, None]:
        session, prompts, count = self._session, self._in_order, 0
        first = min(prompts, default=0)
        size: tuple[int, int] | None = None
        for number, frame in enumerate(frames):
            count = number + 1
            if number < self._begin:
                next(self._audio)
                continue
            if self._rest is not None:
                yield from self._collected(waiting)
                then, self._rest = self._rest, None
                self.stopped = then(session)
                if self.stopped:
                    return
            if number < first:
                check_frame(frame, size, number)
                size = frame.shape[:2]
                next(self._audio)
                yield _without_objects(number, frame)
                continue
            if number == first:
                if session is None:
                    check_frame(frame, size, number)
                    session = self._start(frame, prompts[first].mask, next(self._audio), first, 1)
                    self._session = session
                if session.first is not None:
                    yield session.first
                continue
            assert session is not None   # it starts at `first`
            mask, objects = prompts.get(number, (None, None))
            waiting.append(session.push(
                [frame], [mask], audio=[next(self._audio)], objects=[objects]))
            if len(waiting) > 1:
                yield from (s for s in session.collect(waiting.popleft()) if s)
        if session is not None:
            yield from self._collected(waiting)
            yield from session.finish()
        unused = [str(number) for number in sorted(self._prompts) if number >= count]
        if unused:
            warnings.warn(f"masks of frames {', '.join(unused)} were not used: the video has no "
                          "such frames", stacklevel=2)


def _without_objects(number: int, frame: np.ndarray) -> Segmentation:
    """Returns the segmentation of a frame before the first mask."""
    return Segmentation(number, frame, np.zeros((0, *frame.shape[:2]), np.float32),
                        np.zeros(0, np.float32), EXCLUSIVE)
