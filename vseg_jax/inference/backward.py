"""Propagation backward in time: objects in the frames before their first masks."""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from vseg_jax.inference.places import check_frame
from vseg_jax.inference.prompts.masks import object_ids
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.session import Session


class Backward:
    """A pass over the beginning of a video in reverse order.

    The pass starts at the last frame in which an object has its first mask, and takes the other
    masks on its way to frame 0. From there on, the prediction for a frame is made of two: objects
    that have had their first mask come from the pass forward, the others from this one. Where the
    probabilities of both sum to more than 1, they are divided by the sum (inferred).

    Frames and predictions of this part of the video are kept in temporary files, so that memory
    does not grow with its length.
    """

    def __init__(
        self, start: Callable[..., Session], frames: Iterator[np.ndarray],
        masks: Mapping[int, np.ndarray],
    ) -> None:
        """Reads the frames up to the last first mask, and segments them.

        Args:
          start: see `vseg_jax.inference.predictions.Predictions`.
          frames: of the video, from frame 0.
          masks: checked mask prompts by frame number.
        """
        self._frames, self._probability = Spool(), Spool()
        self._found: dict[int, tuple[tuple[int, ...], np.ndarray, int]] = {}
        last = max(_first_masks(masks).values())
        size: tuple[int, int] | None = None
        for number, frame in enumerate(itertools.islice(frames, last + 1)):
            check_frame(frame, size, number)
            size = frame.shape[:2]
            self._frames.add(frame)
        # The video may be shorter than the masks say.
        first = _first_masks({n: m for n, m in masks.items() if n < len(self._frames)})
        last = max(first.values(), default=0)
        if not last:
            return
        session = start(self._frames[last], masks[last], None, last)
        for number in reversed(range(last)):
            found = session.step(self._frames[number], masks.get(number))
            earlier = [i for i in first if i in found.ids and first[i] > number]
            places = [found.ids.index(i) for i in earlier]
            place = self._probability.add(found.probability[places].astype(np.float16))
            self._found[number] = tuple(earlier), found.scores[places], place

    def frames(self) -> Iterator[np.ndarray]:
        """Yields the frames that have been read, from frame 0."""
        return (self._frames[number] for number in range(len(self._frames)))

    def added_to(self, segmentation: Segmentation) -> Segmentation:
        """Returns the segmentation of a frame with the objects whose first masks come later."""
        if segmentation.frame not in self._found:
            return segmentation
        ids, scores, place = self._found[segmentation.frame]
        probability = np.concatenate([segmentation.probability, self._probability[place]])
        probability /= np.maximum(probability.sum(axis=0), 1)
        return dataclasses.replace(
            segmentation, probability=probability, ids=(*segmentation.ids, *ids), values=(),
            scores=np.concatenate([segmentation.scores, scores]))


class Spool:
    """Arrays in a temporary file, which is deleted with this object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the object lives
        self._starts: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, array: np.ndarray) -> int:
        """Appends an array and returns its place."""
        self._starts.append(self._file.seek(0, os.SEEK_END))
        np.save(self._file, array, allow_pickle=False)
        return len(self._starts) - 1

    def __getitem__(self, place: int) -> np.ndarray:
        self._file.seek(self._starts[place])
        return np.load(self._file, allow_pickle=False)


def _first_masks(masks: Mapping[int, np.ndarray]) -> dict[int, int]:
    """Returns {id: number of the first frame whose mask has it}, in the order of entering."""
    first: dict[int, int] = {}
    for number in sorted(masks):
        for i in object_ids(masks[number]):
            first.setdefault(i, number)
    return first
