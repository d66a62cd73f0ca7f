"""Mask propagation: index masks name the objects, in the first frame and where others enter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vseg_jax.inference.engine import Engine, Images, Masks
from vseg_jax.inference.geometry import all_to_original
from vseg_jax.inference.prompts import masks as user_masks
from vseg_jax.inference.prompts.base import Ids, TaskStreams
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

    def __init__(self, engine: Engine, sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__(engine, sizes)
        self.slots = 1   # of each stream's state

    def start(
        self, frames: Images, inputs: np.ndarray, queries: Sequence[str] | None,
        masks: Masks | None, audio: Sequence[Any] | None, number: int = 0,
    ) -> tuple[Any, list[Segmentation] | None]:
        """Starts the streams; the first segmentations are the mask prompts themselves."""
        assert masks is not None   # see check_prompt
        numbers = [number] * len(frames)
        super().encode(None, audio, numbers)
        prompts = self._encode(masks, numbers)
        self.slots = prompts["named"].shape[1]
        state = self.engine.start(inputs, prompts)
        first = []
        for image, mask, ids in zip(frames, masks, self.ids, strict=True):
            # A stream without a mask has no object yet.
            probability = np.zeros((len(ids), *image.shape[:2]), np.float32)
            if mask is not None:
                probability[:] = np.asarray(mask) == np.array(ids)[:, None, None]
            first.append(Segmentation(0, image, probability, np.ones(len(ids), np.float32),
                                      EXCLUSIVE, ids))
        return state, first

    def encode(
        self, masks: Masks | None, audio: Sequence[Any] | None, numbers: Sequence[int],
        objects: Sequence[Any] | None = None,
    ) -> dict[str, np.ndarray] | None:
        """Returns the `vseg_jax.tasks.vos.Prompt` of each stream, or None.

        Masks are at the input's size and have slots in place of ids.
        """
        super().encode(None, audio, numbers)
        if masks is None:
            masks = [None] * len(self.geometries)
        if objects is None:
            objects = [None] * len(self.geometries)
        if all(x is None for x in (*masks, *objects)):
            return None
        return self._encode(masks, numbers, objects)

    def _encode(
        self, masks: Masks, numbers: Sequence[int], objects: Sequence[Any] | None = None
    ) -> dict[str, np.ndarray]:
        capacity = self.engine.model.config.objects
        known, small, named = [], [], []
        for mask, speaks_for, geometry, ids, frame in zip(
                masks, objects or [None] * len(masks), self.geometries, self.ids, numbers,
                strict=True):
            mask, ids, of_mask = _check(mask, speaks_for, geometry, ids, capacity, frame)
            known.append(ids)
            small.append(user_masks.to_slots(geometry.mask(mask), ids))
            named.append(of_mask)
            _check_kept(mask, small[-1], ids, frame)
        if self.warn_of_gaps:
            for ids, before in zip(known, self.ids, strict=True):
                user_masks.warn_of_gaps(ids, before)
        self.ids = known
        slots = max(self.slots, _slots(max(map(len, known)), capacity))
        speaks = np.zeros((len(known), slots), bool)
        for row, ids, of_mask in zip(speaks, known, named, strict=True):
            row[:len(ids)] = np.isin(ids, of_mask)
        return {"mask": np.stack(small), "named": speaks}

    def fit(self, state: Any, prompts: Any) -> Any:
        """Returns the state with as many slots as the prompts have; slots never become fewer."""
        if prompts is not None and prompts["named"].shape[1] > self.slots:
            self.slots = prompts["named"].shape[1]
            state = self.engine.grow(state, self.slots)
        return state

    def remove(self, state: Any, ids: Any, stream: int) -> Any:
        """Returns the state without these objects; their slots are free; see the base class."""
        ids = user_masks.id_list([ids] if isinstance(ids, int | np.integer) else ids, "ids")
        known = self.ids[stream]
        unknown = [i for i in ids if i not in known]
        if unknown:
            shown = ", ".join(str(i) for i in known if i) or "none"
            raise ValueError(f"there is no object {unknown[0]!r} to remove; those of the stream: "
                             f"{shown}")
        slots = np.zeros((len(self.ids), self.slots), bool)
        slots[stream, :len(known)] = np.isin(known, ids)
        left = tuple(0 if i in ids else i for i in known)
        self.ids = [left if k == stream else others for k, others in enumerate(self.ids)]
        return self.engine.remove(state, slots)

    def another(self, sizes: Sequence[tuple[int, int]]) -> MaskStreams:
        """Returns streams with at least as many slots; see the base class."""
        streams = type(self)(self.engine, sizes)
        streams.slots = self.slots
        return streams

    def adopt(
        self, state: Any, others: MaskStreams, theirs: Any, places: Sequence[int]
    ) -> Any:
        """Takes over streams and their number of slots; see the base class."""
        if others.slots > self.slots:
            state, self.slots = self.engine.grow(state, others.slots), others.slots
        return super().adopt(state, others, theirs, places)

    def saved(self) -> dict[str, Any]:
        """Returns the number of slots, too."""
        return {**super().saved(), "slots": self.slots}

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes over what `saved` returned."""
        super().restore(saved)
        self.slots = saved["slots"]

    def prompt_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of `vseg_jax.tasks.vos.Prompt` for all streams."""
        count, size = len(self.ids), self.geometries[0].size
        return {"mask": jax.ShapeDtypeStruct((count, *size), np.uint8),
                "named": jax.ShapeDtypeStruct((count, self.slots), np.bool_)}

    def decode(self, output: SlotMasks, frames: Images, ids: Ids) -> list[Segmentation]:
        """Returns the segmentations of the objects under their ids; empty slots are left out."""
        segmentations = []
        for number, image, geometry, known, maps, scores in zip(
                output.frame, frames, self.geometries, ids, output.probability, output.scores,
                strict=True):
            taken = [slot for slot, i in enumerate(known) if i]
            probability = all_to_original(maps[taken], geometry.affine, image.shape[:2])
            segmentations.append(Segmentation(
                int(number), image, probability, scores[taken].astype(np.float32), EXCLUSIVE,
                tuple(i for i in known if i)))
        return segmentations


def _slots(objects: int, capacity: int) -> int:
    """Returns how many slots serve so many objects: powers of two, so that few sizes compile."""
    return min(1 << max(objects - 1, 0).bit_length(), capacity)


def _check(
    mask: Any, objects: Any, geometry: Geometry, ids: tuple[int, ...],
    capacity: int, frame: int,
) -> tuple[np.ndarray, tuple[int, ...], list[int]]:
    """Returns a checked mask, the ids of the slots with it, and those that it speaks for.

    A stream without a mask gets one of zeros, which speaks for nothing.
    """
    size = geometry.crop[2:]
    if mask is None:
        if objects is not None:
            raise user_masks.no_mask(frame)
        return np.zeros(size, np.uint8), ids, []
    mask, named = user_masks.check_prompt(mask, objects, size, frame)
    user_masks.check_known(named, ids, mask, frame)
    return mask, user_masks.add_ids(ids, mask, capacity, frame), named


def _check_kept(mask: np.ndarray, small: np.ndarray, ids: tuple[int, ...], frame: int) -> None:
    """Raises ValueError if an object of the mask has no pixel left at the input's size."""
    kept = {ids[slot - 1] for slot in user_masks.object_ids(small)}
    lost = set(user_masks.object_ids(mask)) - kept
    if lost:
        raise ValueError(f"nothing is left of object {min(lost)} of the mask of frame {frame} at "
                         f"{size_text(small.shape)}; raise short_side")
