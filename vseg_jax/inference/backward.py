"""Propagation backward in time: objects in the frames before their first masks."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import IO

import numpy as np

from vseg_jax.inference.places import check_frame
from vseg_jax.inference.prompts.masks import Prompt, in_order, object_ids
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.session import Session


class Backward:
    """A pass over the beginning of a video in reverse order.

    The pass starts at the last frame in which an object has its first mask, and takes the other
    masks on its way to frame 0. From there on, the prediction for a frame is made of two: objects
    that have had their first mask come from the pass forward, the others from this one. Where the
    probabilities of both sum to more than 1, they are divided by the sum (inferred).

    Frames and predictions of this part of the video are kept in a file, so that memory does not
    grow with its length.
    """

    def __init__(
        self, start: Callable[..., Session], frames: Iterator[np.ndarray],
        prompts: Mapping[int, Prompt], spool: Spool,
    ) -> None:
        """Reads the frames up to the last first mask, and segments them.

        Args:
          start: see `vseg_jax.inference.predictions.Predictions`.
          frames: of the video, from frame 0.
          prompts: checked mask prompts by frame number.
          spool: empty.
        """
        self._spool = spool
        self._found: dict[int, tuple[tuple[int, ...], np.ndarray, int]] = {}
        last = max(_first_masks(prompts).values())
        size: tuple[int, int] | None = None
        for number, frame in enumerate(itertools.islice(frames, last + 1)):
            check_frame(frame, size, number)
            size = frame.shape[:2]
            spool.add(frame)
        self._count = len(spool)
        # The video may be shorter than the masks say.
        prompts = {number: prompt for number, prompt in prompts.items() if number < self._count}
        first = _first_masks(prompts)
        last = max(first.values(), default=0)
        if not last:
            return
        given = in_order((n, prompts[n]) for n in sorted(prompts, reverse=True) if n <= last)
        session = start(spool[last], given[last].mask, None, last, -1)
        for number in reversed(range(last)):
            mask, objects = given.get(number, (None, None))
            found = session.step(spool[number], mask, objects=objects)
            earlier = [i for i in first if i in found.ids and first[i] > number]
            places = [found.ids.index(i) for i in earlier]
            place = spool.add(found.probability[places].astype(np.float16))
            self._found[number] = tuple(earlier), found.scores[places], place

    def frames(self) -> Iterator[np.ndarray]:
        """Yields the frames that have been read, from frame 0."""
        return (self._spool[number] for number in range(self._count))

    def added_to(self, segmentation: Segmentation) -> Segmentation:
        """Returns the segmentation of a frame with the objects whose first masks come later."""
        if segmentation.frame not in self._found:
            return segmentation
        ids, scores, place = self._found[segmentation.frame]
        probability = np.concatenate([segmentation.probability, self._spool[place]])
        probability /= np.maximum(probability.sum(axis=0), 1)
        return dataclasses.replace(
            segmentation, probability=probability, ids=(*segmentation.ids, *ids),
            scores=np.concatenate([segmentation.scores, scores]))


class Spool:
    """Arrays in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        """Takes an empty file, open for writing and reading."""
        self._file = file
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


def _first_masks(prompts: Mapping[int, Prompt]) -> dict[int, int]:
    """Returns {id: number of the first frame whose mask has it}, in the order of entering."""
    first: dict[int, int] = {}
    for number in sorted(prompts):
        for i in object_ids(prompts[number].mask):
            first.setdefault(i, number)
    return first
