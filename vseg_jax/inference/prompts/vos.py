"""Mask propagation: index masks name the objects, in the first frame and where others enter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vseg_jax.inference.engine import Engine, Images, Masks
from vseg_jax.inference.geometry import all_to_original
from vseg_jax.inference.prompts import masks as user_masks
from vseg_jax.inference.prompts.base import Ids, TaskStreams, check_counts
from vseg_jax.inference.segmentation import EXCLUSIVE, Segmentation
from vseg_jax.input_pipeline.transforms import Geometry
from vseg_jax.media.video import size_text
from vseg_jax.tasks.vos import SlotMasks


class MaskStreams(TaskStreams):
    """Streams of a model that propagates masks through a video."""

    needs = ()
    prompt = "mask"
    prompt_request = "a mask prompt: give the first frame's index mask"

    @classmethod
    def check_engine(cls, engine: Engine) -> None:
        """Raises ValueError if the engine's settings do not suit the task."""
        if engine.short_side < 0:
            raise ValueError(f"short_side is {engine.short_side}; it must be a number of pixels, "
                             "or 0 for the frame's own size")

    @classmethod
    def geometry(cls, engine: Engine, height: int, width: int) -> Geometry:
        """Returns how a frame becomes the model's input: as it is, or scaled to `short_side`."""
        scale = engine.short_side / min(height, width) if engine.short_side else 1.0
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        return Geometry((0, 0, height, width), size, size)

    def start(
        self, frames: Images, inputs: np.ndarray, queries: Sequence[str] | None,
        masks: Masks | None, audio: Sequence[Any] | None,
    ) -> tuple[Any, list[Segmentation] | None]:
        """Starts the streams; the first segmentations are the mask prompts themselves."""
        assert masks is not None   # see check_prompt
        check_counts(frames, masks, "masks")
        super().encode(None, audio, 0)
        state = self.engine.start(inputs, self._encode(masks, 0))
        first = []
        for image, mask, ids in zip(frames, masks, self.ids, strict=True):
            probability = np.zeros((len(ids), *image.shape[:2]), np.float32)
            if mask is not None:   # a stream whose objects all enter later
                probability[:] = np.asarray(mask) == np.array(ids)[:, None, None]
            first.append(Segmentation(0, image, probability, np.ones(len(ids), np.float32),
                                      EXCLUSIVE, ids))
        return state, first

    def encode(
        self, masks: Masks | None, audio: Sequence[Any] | None, frame: int
    ) -> dict[str, np.ndarray] | None:
        """Returns the masks at the input's size with slots in place of ids, or None."""
        super().encode(None, audio, frame)
        if masks is None or all(mask is None for mask in masks):
            return None
        return self._encode(masks, frame)

    def _encode(self, masks: Masks, frame: int) -> dict[str, np.ndarray]:
        # A stream without a mask gets one of zeros, which leaves all pixels to the model.
        known, encoded = [], []
        for mask, geometry, ids in zip(masks, self.geometries, self.ids, strict=True):
            small = np.zeros(geometry.size, np.uint8)
            if mask is not None:
                mask = user_masks.check_mask(mask, geometry.crop[2:], frame)
                ids = user_masks.add_ids(ids, mask, self.engine.model.config.objects)
                small = user_masks.to_slots(geometry.mask(mask), ids)
                _check_kept(mask, small, ids, frame)
            known.append(ids)
            encoded.append(small)
        self.ids = known
        return {"mask": np.stack(encoded)}

    def decode(self, output: SlotMasks, frames: Images, ids: Ids) -> list[Segmentation]:
        """Returns the segmentations of the objects under their ids; empty slots are left out."""
        segmentations = []
        for number, image, geometry, known, maps, scores in zip(
                output.frame, frames, self.geometries, ids, output.probability, output.scores,
                strict=True):
            n = len(known)
            probability = all_to_original(maps[:n], geometry.affine, image.shape[:2])
            segmentations.append(Segmentation(
                int(number), image, probability, scores[:n].astype(np.float32), EXCLUSIVE, known))
        return segmentations


def _check_kept(mask: np.ndarray, small: np.ndarray, ids: tuple[int, ...], frame: int) -> None:
    """Raises ValueError if an object of the mask has no pixel left at the input's size."""
    kept = {ids[slot - 1] for slot in user_masks.object_ids(small)}
    lost = set(user_masks.object_ids(mask)) - kept
    if lost:
        raise ValueError(f"nothing is left of object {min(lost)} of the mask of frame {frame} at "
                         f"{size_text(small.shape)}; raise short_side")
