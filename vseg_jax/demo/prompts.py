"""What a user says about objects: the mask of one object in one frame, and how it came about."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, UInt8

from vseg_jax.demo.outline import Point

Mask = Bool[np.ndarray, "H W"]


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The mask of an object in a frame.

    Attributes:
      mask: all False says that the object is not in the frame.
      start: the mask that the clicks refine, None without one.
      inside: places of clicks on the object.
      outside: places of clicks beside it.
    """

    mask: Mask
    start: Mask | None = None
    inside: tuple[Point, ...] = ()
    outside: tuple[Point, ...] = ()


class Prompts:
    """All prompts for a clip; the changes of them can be undone."""

    def __init__(self, size: tuple[int, int]) -> None:
        """Takes the size (height, width) of the frames."""
        self._size = size
        self._of_frame: dict[int, dict[int, Prompt]] = {}   # newer prompts are later
        self._changes: list[tuple[int, int, dict[int, Prompt]]] = []   # frame, object, frame before

    def get(self, frame: int, number: int) -> Prompt | None:
        """Returns the prompt for an object in a frame, None if there is none."""
        return self._of_frame.get(frame, {}).get(number)

    def objects(self, frame: int) -> list[int]:
        """Returns the ids of the objects with a prompt in a frame."""
        return sorted(self._of_frame.get(frame, {}))

    def frames(self, number: int | None = None) -> list[int]:
        """Returns the frames with a prompt for an object, by default for any."""
        return sorted(frame for frame, prompts in self._of_frame.items()
                      if number is None or number in prompts)

    def set(self, frame: int, number: int, prompt: Prompt) -> None:
        """Sets the prompt for an object in a frame; it lies over the others of the frame."""
        before = self._of_frame.get(frame, {})
        self._changes.append((frame, number, before))
        self._put(frame, {**_without(before, number), number: prompt})

    def undo(self) -> int:
        """Takes back the last change and returns its frame.

        Raises:
          ValueError: there is no change.
        """
        if not self._changes:
            raise ValueError("there is nothing to undo")
        frame, _, before = self._changes.pop()
        self._put(frame, before)
        return frame

    def remove(self, number: int) -> None:
        """Deletes all prompts for an object; this cannot be undone."""
        for frame in self.frames(number):
            self._put(frame, _without(self._of_frame[frame], number))
        self._changes = [(frame, other, _without(before, number))
                         for frame, other, before in self._changes if other != number]

    def drawn_over(self, index: UInt8[np.ndarray, "H W"], frame: int) -> UInt8[np.ndarray, "H W"]:
        """Returns an index mask in which objects with a prompt in the frame have its pixels."""
        prompts = self._of_frame.get(frame, {})
        index = np.where(np.isin(index, list(prompts)), np.uint8(0), index)
        for number, prompt in prompts.items():
            index[prompt.mask] = number
        return index

    def for_model(self) -> tuple[dict[int, np.ndarray], dict[int, list[int]]]:
        """Returns the arguments `masks` and `objects` of `Segmenter.segment`.

        Objects that have no pixel in any frame are left out.
        """
        masks = {frame: self.drawn_over(np.zeros(self._size, np.uint8), frame)
                 for frame in self.frames()}
        seen = {i for mask in masks.values() for i in np.unique(mask).tolist()}
        objects = {frame: said for frame in masks
                   if (said := [i for i in self.objects(frame) if i in seen])}
        return {frame: masks[frame] for frame in objects}, objects

    def _put(self, frame: int, prompts: dict[int, Prompt]) -> None:
        self._of_frame.pop(frame, None)
        if prompts:
            self._of_frame[frame] = prompts


def _without(prompts: dict[int, Prompt], number: int) -> dict[int, Prompt]:
    return {i: prompt for i, prompt in prompts.items() if i != number}
