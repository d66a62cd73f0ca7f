"""What a segmenter returns: the objects of a frame, and each object's summary over a video."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vseg_jax.binarize import foreground
from vseg_jax.index_masks import LARGEST

EXCLUSIVE = "exclusive"
INSTANCES = "youtube_vis"


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The objects of one frame.

    Attributes:
      frame: the frame's number, from 0.
      image: the frame.
      probability: of each of N objects, in [0, 1], at the frame's size.
      scores: confidence in each object, in [0, 1].
      protocol: how probabilities become masks. "legacy" takes pixels above half of the map's
        maximum, "coco" and "expressions" those above one half, "youtube_vis" those above
        `threshold`; under these, objects may overlap. "exclusive" assigns each pixel to the most
        probable of the objects and the background, whose probability is 1 - their sum.
      ids: of the objects. For mask prompts, the ids in the masks; for models that find objects by
        themselves, identities: numbers from 1 that mean the same object in all frames (in a long
        video also objects that use the same slot at different times); else 1 to N.
      categories: the name of each object's category, for models that find objects; else ().
      threshold: see `protocol`.
    """

    frame: int
    image: UInt8[np.ndarray, "H W 3"]
    probability: Float[np.ndarray, "N H W"]
    scores: Float[np.ndarray, " N"]
    protocol: str = "legacy"
    ids: tuple[int, ...] = ()
    categories: tuple[str, ...] = ()
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(1, len(self.scores) + 1)))

    @property
    def values(self) -> tuple[int, ...]:
        """The objects' pixel values in `index`, 1 to 254: their ids.

        An id above 254 counts on from 1, up to a value that is free in this frame. If none is, its
        value is 0, and the object is not in `index`.
        """
        values = {i: i for i in self.ids if i <= LARGEST}
        for i in self.ids:
            if i > LARGEST:
                free = ((i + k - 1) % LARGEST + 1 for k in range(LARGEST))
                values[i] = next((v for v in free if v not in values.values()), 0)
        return tuple(values[i] for i in self.ids)

    @property
    def masks(self) -> Bool[np.ndarray, "N H W"]:
        """The mask of each object."""
        if self.protocol == EXCLUSIVE:
            return self.index == np.array(self.values, np.uint8)[:, None, None]
        if self.protocol == INSTANCES:
            return self.probability > self.threshold
        return foreground(self.probability, self.protocol)

    @functools.cached_property
    def index(self) -> UInt8[np.ndarray, "H W"]:
        """The index mask: 0 for background, else an object's value; where objects overlap, that of
        the most probable one."""
        if not self.ids:
            return np.zeros(self.image.shape[:2], np.uint8)
        if self.protocol == EXCLUSIVE:
            weighed, background = self.probability, 1 - self.probability.sum(axis=0)
        else:
            weighed, background = np.where(self.masks, self.probability, 0), 0
        values = np.array(self.values, np.uint8)[weighed.argmax(axis=0)]
        return np.where(weighed.max(axis=0) > background, values, 0).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Track:
    """One object that a model has found, summarized over a video.

    Attributes:
      id: its identity, as in `Segmentation.ids`.
      category: the name of its category.
      score: confidence in [0, 1].
      frames: number of frames in which it was found.
    """

    id: int
    category: str
    score: float
    frames: int
