"""A segmenter without a model that takes mask prompts: it tracks objects by their gray level."""

import time

import numpy as np

from vseg_jax.inference.segmenter import Segmenter


class Prediction:
    def __init__(self, index):
        self.index = index


class Follower(Segmenter):
    """Streams that learn the colors of the objects in their mask prompts, and find them again.

    With `copies`, the prediction is always the first mask. `given` collects the prompts.
    """

    def __init__(self, copies=False, wait=0.0):
        self.copies, self.wait, self.given, self.together = copies, wait, [], []

    def start_many(self, frames, queries=None, masks=None):
        self.together.append(len(frames))
        return Streams(self, frames, masks)


class Streams:
    adaptation = None

    def __init__(self, owner, frames, masks):
        self.owner, self.known, self.masks = owner, [{} for _ in frames], masks
        self._learn(frames, masks)
        self.first = [Prediction(mask.copy()) for mask in masks]

    def _learn(self, frames, masks):
        self.owner.given.append([sorted(set(np.unique(m).tolist()) - {0}) for m in masks])
        for known, frame, mask in zip(self.known, frames, masks, strict=True):
            if not mask.any():
                raise ValueError("a mask without an object")
            for value in set(np.unique(mask).tolist()) - {0}:
                [color] = set(frame[mask == value][:, 0].tolist())
                known[color] = value

    def step(self, frames, masks=None):
        time.sleep(self.owner.wait)
        if masks is not None:
            self._learn(frames, masks)
        if self.owner.copies:
            return [Prediction(mask) for mask in self.masks]
        return [Prediction(sum(np.uint8(value) * (frame[..., 0] == color).astype(np.uint8)
                           for color, value in known.items()))
                for frame, known in zip(frames, self.known, strict=True)]
