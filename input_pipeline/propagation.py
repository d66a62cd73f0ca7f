"""Training samples of mask propagation: clips with masks of the objects of the first frame.

Clips come from videos or from single still images, following STM (Oh et al. 2019, section 4) as
SwiftNet's authors train it; `PropagationConfig` names their code ("public" below).
"""

from __future__ import annotations

import cv2
import numpy as np

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.clips import propagation_frames
from vseg_jax.input_pipeline.frames import read_frame, read_mask
from vseg_jax.input_pipeline.records import Dataset, IndexEntry, Record
from vseg_jax.input_pipeline.settings import ClipConfig, PropagationConfig
from vseg_jax.input_pipeline.transforms import (
    apply_color,
    random_affine,
    random_color,
    scaling,
    translation,
    warp_frame,
    warp_mask,
)

DRIFT = 20 / 384  # of the crop between frames, share of the input's sides (public)
PASTED = 3  # at most so many objects are pasted into a clip of a still (public)
PASTED_DRIFT = 40 / 384  # of a pasted object between frames (public: only right and down)
PASTED_SIDE = 0.6  # limit of a pasted object's longer side, share of the input's shorter side


class PropagationSamples:
    """Random access to training clips, one per video.

    A clip of a video starts at a random annotated frame that shows an object. Each of its frames
    gets its own affine change (`random_affine`); zoom, mirroring and a slightly drifting crop are
    shared. The crop contains the objects completely if they fit, and always a pixel of an object of
    the first frame. Of the objects in the cropped first frame at most `propagation.objects` are
    drawn at random and get the slots 1, 2, ... in order of their ids; all others are background.
    Beyond its border, image and mask are mirrored (public: black, which reveals the border).

    A clip of a still image (a share `propagation.stills` of the clips, and always of an image or of
    a video with too few annotated frames) repeats one annotated frame, each time with its own
    affine change (public: the corners move). A share `1 - propagation.unpasted` of these clips also
    shows one to three objects of other videos, which move independently. Objects that are very
    small in the first frame are background, except where all are (public: even then).

    Args:
      dataset: an opened dataset; expressions and categories are not used.
      clip: its height and width are the size of the sample.
      propagation: lengths, slots and augmentation; see `PropagationConfig`.
      train: False takes the first consecutive annotated frames of each video, resized only.
      seed: of the random choices of `samples[i]`.
      batch_size: clips of a training step, over all datasets and processes; the skip grows with
        the number of clips.

    Raises:
      ValueError: no video has an object and enough annotated frames.
    """

    def __init__(self, dataset: Dataset, clip: ClipConfig, propagation: PropagationConfig, *,
                 train: bool, seed: int = 0, batch_size: int = 1):
        self.dataset = dataset
        self.size = (clip.height, clip.width)
        self.config = propagation
        self.train = train
        self.seed = seed
        self.batch_size = batch_size
        longest = max(propagation.length, propagation.final_length if train else 0)
        self._starts = [_starts(entry, longest) for entry in dataset.index]
        self._rows = [
            number for number, entry in enumerate(dataset.index)
            if self._starts[number] or (
                train and (propagation.stills or entry.length == 1)
                and any(o.frames for o in entry.objects))
        ]
        if not self._rows:
            raise ValueError(
                f"no video of {dataset.name} has {longest} annotated frames of which the first "
                f"shows an object; try a smaller propagation."
                f"{'length' if longest == propagation.length else 'final_length'} or "
                "propagation.stills=1"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        """Returns sample `i` as in step 0, drawn from (seed, i)."""
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        return self.sample(i, np.random.default_rng((self.seed, int(i))), step=0)

    def sample(self, i: int, rng: np.random.Generator, step: int) -> dict[str, np.ndarray]:
        """Returns sample `i`, drawn from `rng`: the batch of `vseg_jax.tasks.vos` without B.

        `valid` is False if no object is left in the first frame, for instance because it had only
        a pixel or two before the frame was made smaller.
        """
        number, length = self._rows[i], self.length(step)
        smallest = 0
        if not self.train:
            frames, masks = self._plain(number)
        elif not self._starts[number] or rng.random() < self.config.stills:
            frames, masks = self._still(number, length, rng)
            smallest = self.config.smallest * masks[0].size
        else:
            frames, masks = self._video(number, length, rng, self.longest_skip(step))
        if self.train and self.config.color:
            color = random_color(self.config.color, rng)
            frames = [apply_color(frame, color) for frame in frames]
        shown = _ids(masks[0], smallest)
        if len(shown) > self.config.objects:
            chosen = rng if self.train else np.random.default_rng(0)
            shown = np.sort(chosen.choice(shown, self.config.objects, replace=False))
        slots = np.zeros(256, np.uint8)
        slots[VOID] = VOID
        slots[shown] = np.arange(1, len(shown) + 1)
        return {
            "frames": np.stack(frames),
            "masks": slots[np.stack(masks)],
            "masks_valid": np.ones(len(masks), bool),
            "objects": np.arange(self.config.objects) < len(shown),
            "video": np.int32(number),
            "sample": np.int32(i),
            "valid": np.bool_(len(shown) > 0),
        }

    def longest_skip(self, step: int) -> int:
        """Returns how many frames may be left out between two frames of a clip at a step."""
        config = self.config
        return min(config.skip_start + step * self.batch_size // config.skip_every,
                   config.skip_max)

    def length(self, step: int) -> int:
        """Returns the frames of a training clip at a step."""
        config = self.config
        grown = config.final_length and step >= config.final_from
        return config.final_length if grown else config.length

    def _plain(self, number: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        record, entry = self.dataset[number], self.dataset.index[number]
        start = self._starts[number][0]
        taken = entry.annotated[start:start + self.config.length]
        matrix = scaling(self.size[0] / record.height, self.size[1] / record.width)
        return self._warp([self._read(record, t) for t in taken], [matrix] * len(taken))

    def _video(
        self, number: int, length: int, rng: np.random.Generator, skip: int
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        record, entry = self.dataset[number], self.dataset.index[number]
        taken = propagation_frames(entry.annotated, self._starts[number], length, skip, rng)
        pairs = [self._read(record, t) for t in taken]
        return self._warp(pairs, self._camera([mask for _, mask in pairs], self.config.zoom, rng))

    def _still(
        self, number: int, length: int, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        pair = self._shown(number, rng)
        pairs = [pair] * length
        camera = self._camera([mask for _, mask in pairs], self.config.stills_zoom, rng)
        frames, masks = self._warp(pairs, camera)
        if rng.random() < self.config.unpasted:
            return frames, masks
        taken = set(_ids(pair[1]))
        free = [i for i in range(1, VOID) if i not in taken]
        others = [row for row in self._rows if row != number] or [number]
        for object_id in free[:int(rng.integers(1, PASTED, endpoint=True))]:
            self._paste(frames, masks, object_id, int(rng.choice(others)), rng)
        return frames, masks

    def _paste(self, frames: list[np.ndarray], masks: list[np.ndarray], object_id: int,
               number: int, rng: np.random.Generator) -> None:
        """Pastes a random object of video `number` into the clip, in place."""
        rgb, mask = self._shown(number, rng)
        large = _ids(mask, self.config.smallest * mask.size)
        alone = (mask == rng.choice(large)).astype(np.uint8)
        left, top, width, height = cv2.boundingRect(alone)
        rgb, alone = (a[top:top + height, left:left + width] for a in (rgb, alone))
        size = np.array(self.size)
        scale = min(self._cover(mask.shape) * rng.uniform(*self.config.stills_zoom),
                    PASTED_SIDE * size.min() / max(height, width))
        center = rng.uniform(0, 1, 2) * size
        for frame, index in zip(frames, masks, strict=True):
            matrix = (translation(*(center - scale * np.array([height, width]) / 2))
                      @ random_affine(self.config, scale * height, scale * width, rng)
                      @ scaling(scale, scale))
            seen = warp_mask(alone, matrix, self.size, border=0) > 0
            frame[seen] = warp_frame(rgb, matrix, self.size)[seen]
            index[seen] = object_id
            center = np.clip(center + rng.uniform(-PASTED_DRIFT, PASTED_DRIFT, 2) * size, 0, size)

    def _camera(self, masks: list[np.ndarray], zoom: tuple[float, float],
                rng: np.random.Generator) -> list[np.ndarray]:
        """Returns a 3x3 matrix per frame, from pixel edges of the frame to those of the sample."""
        height, width = masks[0].shape
        scale = self._cover((height, width)) * rng.uniform(*zoom)
        extent, size = scale * np.array([width, height]), np.array(self.size[::-1])
        common = scaling(scale, scale)
        if rng.random() < self.config.flip:
            common = translation(0.0, extent[0]) @ scaling(1.0, -1.0) @ common
        bases = [random_affine(self.config, *extent[::-1], rng) @ common for _ in masks]
        moved = [_points(mask) @ base.T for mask, base in zip(masks, bases, strict=True)]
        box = np.concatenate(moved)[:, :2]
        low, high = box.min(axis=0), box.max(axis=0)
        # If not all objects fit, the crop keeps a pixel of an object that the first frame shows.
        y, x = divmod(int(rng.choice(np.flatnonzero((masks[0] > 0) & (masks[0] < VOID)))), width)
        held = (bases[0] @ (x + 0.5, y + 0.5, 1.0))[:2]
        fits = high - low <= size
        first = np.clip(np.where(fits, high - size, held - size), 0, extent - size)
        last = np.clip(np.where(fits, low, held), 0, extent - size)
        start = rng.uniform(first, np.maximum(first, last))
        start = np.clip(start, held - size + 1, held - 1)  # even if it was rotated out of the frame
        matrices = []
        for base in bases:
            matrices.append(translation(-start[1], -start[0]) @ base)
            start = np.clip(start + rng.uniform(-DRIFT, DRIFT, 2) * size, 0, extent - size)
        return matrices

    def _cover(self, shape: tuple[int, int]) -> float:
        """Returns the scale at which a frame just covers the sample."""
        return max(self.size[0] / shape[0], self.size[1] / shape[1])

    def _warp(
        self, pairs: list[tuple[np.ndarray, np.ndarray]], matrices: list[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        frames, masks = [], []
        for (rgb, mask), matrix in zip(pairs, matrices, strict=True):
            frames.append(warp_frame(rgb, matrix, self.size))
            masks.append(warp_mask(mask, matrix, self.size))
        return frames, masks

    def _shown(self, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Returns a random annotated frame of a video that shows an object, with its mask."""
        entry = self.dataset.index[number]
        frames = sorted({t for o in entry.objects for t in o.frames})
        return self._read(self.dataset[number], int(rng.choice(frames)))

    def _read(self, record: Record, t: int) -> tuple[np.ndarray, np.ndarray]:
        return read_frame(self.dataset, record, t), read_mask(self.dataset, record, t)


def _starts(entry: IndexEntry, length: int) -> list[int]:
    """Returns the indices of annotated frames that show an object and are followed by enough."""
    shown = {t for o in entry.objects for t in o.frames}
    places = range(len(entry.annotated) - length + 1)
    return [place for place in places if entry.annotated[place] in shown]


def _ids(mask: np.ndarray, smallest: float = 0) -> np.ndarray:
    """Returns the objects' ids in an index mask, in order.

    Objects of at most `smallest` pixels are left out, unless all objects are so small.
    """
    counts = np.bincount(mask.ravel(), minlength=256)[:VOID]
    counts[0] = 0
    large = np.flatnonzero(counts > smallest)
    return large if len(large) else np.flatnonzero(counts)


def _points(mask: np.ndarray) -> np.ndarray:
    """Returns points (x, y, 1) at the ends of a mask's rows; their hull contains all objects."""
    shown = (mask > 0) & (mask < VOID)
    y = np.flatnonzero(shown.any(axis=1))
    left, right = shown[y].argmax(axis=1), mask.shape[1] - shown[y, ::-1].argmax(axis=1)
    corners = [np.stack([x, y + below], axis=1) for x in (left, right) for below in (0, 1)]
    return np.pad(np.concatenate(corners).astype(float), ((0, 0), (0, 1)), constant_values=1)
