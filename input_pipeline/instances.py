"""Samples of video instance segmentation: a target frame, the frames before it, their objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.audio import frame_patches, silent_patches
from vseg_jax.input_pipeline.frames import read_frame, read_mask
from vseg_jax.input_pipeline.records import SAMPLE_RATE, Dataset, Record, decode_audio, decode_mask
from vseg_jax.input_pipeline.settings import ClipConfig, InstanceConfig, PropagationConfig
from vseg_jax.input_pipeline.transforms import (
    Geometry,
    apply_color,
    plain_geometry,
    random_affine,
    random_color,
    random_geometry,
    warp_frame,
    warp_mask,
)
from vseg_jax.run_lengths import encode_rle

MOVES = PropagationConfig()  # ranges of the affine changes of still images


def true_tracks(record: Record, categories: Sequence[str], where: str) -> list[dict[str, Any]]:
    """Returns the objects of a video in the form of annotation files, for scoring.

    Args:
      record: the video. Its void pixels (crowds) belong to no object.
      categories: names of the classes, in order of their numbers; () takes all objects, as class 0.
      where: the dataset, for errors.

    Returns:
      For each visible object of a class: `category_id`, the number of its class from 0, and
      `segmentations`, which has for each annotated frame a run-length code at the record's size, or
      None if the frame does not show the object.
    """
    annotated = [t for t, mask in enumerate(record.masks) if mask]
    masks = [decode_mask(record.masks[t], f"{where} video {record.video_id} frame {t}")
             for t in annotated]
    shown = [np.bincount(mask.ravel(), minlength=256) > 0 for mask in masks]
    return [
        {"category_id": categories.index(o.category) if categories else 0,
         "segmentations": [encode_rle(mask == o.id) if seen[o.id] else None
                           for mask, seen in zip(masks, shown, strict=True)]}
        for o in record.objects
        if (not categories or o.category in categories) and any(seen[o.id] for seen in shown)
    ]


class InstanceSamples:
    """Random access to clips that end with an annotated frame; one for each that shows an object.

    The reference frames directly precede the target frame, as at test time (inferred; the paper
    does not say how its training draws them), or in training with the random steps of
    `instances.gap`. Before the start of the video the first frame is
    repeated (inferred). All frames of a clip get the same crop, mirroring and color; a training
    crop contains a pixel of an object of the target frame.

    In training a video of a single frame, such as an image of COCO, becomes a clip: each reference
    is the frame with its own affine change, as in mask propagation (inferred; the paper trains on
    COCO and does not say how).

    Objects get the slots 1, 2, ... in order of their ids. If there are more than
    `instances.objects`, those of the target frame come first, in training in random order; the
    others become void. Objects whose category is not in `instances.categories` are background.

    Args:
      dataset: an opened dataset.
      clip: size, geometry and (in training) augmentation.
      instances: slots, references, classes and audio; see `InstanceConfig`.
      train: whether clips are augmented and objects drawn at random.
      seed: of the random choices of `samples[i]`.

    Attributes:
      categories: the names of the classes, in order of their numbers.

    Raises:
      ValueError: neither the dataset nor `instances` lists categories, or no frame shows an object
        of such a category.
    """

    def __init__(self, dataset: Dataset, clip: ClipConfig, instances: InstanceConfig, *,
                 train: bool, seed: int = 0):
        self.dataset = dataset
        self.clip = clip
        self.config = instances
        self.train = train
        self.seed = seed
        self.categories = instances.categories or tuple(c.name for c in dataset.categories)
        if not self.categories:
            raise ValueError(
                f"{dataset.name} does not list its categories; name them in "
                "instances.categories, or, if its folder is an old one, remove it and prepare the "
                "dataset again"
            )
        self._classes = {name: k for k, name in enumerate(self.categories)}
        rows = [
            (number, frame) for number, entry in enumerate(dataset.index)
            for frame in sorted({t for o in entry.objects if o.category in self._classes
                                 for t in o.frames})
        ]
        if not rows:
            raise ValueError(f"{dataset.name} has no frame that shows an object of the categories "
                             f"{', '.join(self.categories)}")
        self._rows = np.array(rows, np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        """Returns sample `i`, with augmentation drawn from (seed, i)."""
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        return self.sample(i, np.random.default_rng((self.seed, int(i))), step=0)

    def sample(self, i: int, rng: np.random.Generator, step: int) -> dict[str, np.ndarray]:
        """Returns sample `i`, augmented with `rng`: the batch of `vseg_jax.tasks.vis` without B."""
        del step  # augmentation does not change during training
        number, frame = (int(v) for v in self._rows[i])
        record = self.dataset[number]
        places = frame - self._distances(rng)
        chosen = np.maximum(places, 0)
        kept = self._kept(record)
        geometry = self._geometry(record, frame, kept, rng)
        moved = self.train and len(record.frames) == 1  # a still
        read = self._move if moved else self._read
        frames, masks = read(record, chosen, geometry, rng)
        shown = np.stack([np.bincount(mask.ravel(), minlength=256) > 0 for mask in masks])
        slots, ids = self._slots(shown, kept, rng)
        annotated = np.array([bool(record.masks[t]) for t in chosen])
        classes = {o.id: self._classes[o.category] for o in record.objects if o.id in kept}
        fill = (0, self.config.objects - len(ids))
        sample = {
            "frames": frames,
            "frames_valid": (places >= 0) | moved,
            "masks": slots[masks],
            "masks_valid": annotated,
            "objects": np.pad(np.ones(len(ids), bool), fill),
            "visible": np.pad(shown[:, ids], ((0, 0), fill)),
            "classes": np.pad(np.array([classes[k] for k in ids], np.int32), fill),
            "ids": np.pad(np.array(ids, np.int32), fill),
            "video": np.int32(number),
            "sample": np.int32(i),
            "valid": np.bool_(True),
            "geometry": geometry.affine,
        }
        return sample | (self._audio(record, chosen) if self.config.uses_audio else {})

    def _distances(self, rng: np.random.Generator) -> np.ndarray:
        """Returns how many frames before the target each frame of the clip is, the oldest first."""
        steps = np.ones(self.config.references, int)
        if self.train and self.config.gap != (1, 1):
            steps = rng.integers(*self.config.gap, len(steps), endpoint=True)
        return np.append(np.cumsum(steps)[::-1], 0)

    def _kept(self, record: Record) -> list[int]:
        """Returns the ids of the objects whose category is a class."""
        return [o.id for o in record.objects if o.category in self._classes]

    def _geometry(self, record: Record, frame: int, kept: list[int],
                  rng: np.random.Generator) -> Geometry:
        size = (record.height, record.width)
        if not self.train:
            return plain_geometry(*size, self.clip)
        return random_geometry(*size, self.clip, rng,
                               np.isin(read_mask(self.dataset, record, frame), kept))

    def _read(
        self, record: Record, chosen: np.ndarray, geometry: Geometry, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the clip's frames and index masks at the sample's size, ids as in the record."""
        color = random_color(self.clip.color, rng) if self.train and self.clip.color else None
        distinct, place = np.unique(chosen, return_inverse=True)
        frames = np.empty((len(distinct), *geometry.size, 3), np.uint8)
        masks = np.full((len(distinct), *geometry.size), VOID, np.uint8)
        for k, t in enumerate(distinct):
            rgb = read_frame(self.dataset, record, t)
            frames[k] = geometry.frame(rgb if color is None else apply_color(rgb, color))
            if record.masks[t]:
                masks[k] = geometry.mask(read_mask(self.dataset, record, t))
        return frames[place], masks[place]

    def _move(
        self, record: Record, chosen: np.ndarray, geometry: Geometry, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `_read`, for a still image: all frames except the last one get an affine change."""
        rgb, mask = read_frame(self.dataset, record, 0), read_mask(self.dataset, record, 0)
        if self.clip.color:
            rgb = apply_color(rgb, random_color(self.clip.color, rng))
        pairs = []
        for _ in chosen[:-1]:
            matrix = random_affine(MOVES, *mask.shape, rng)
            pairs.append((warp_frame(rgb, matrix, mask.shape), warp_mask(mask, matrix, mask.shape)))
        pairs.append((rgb, mask))
        frames, masks = zip(*pairs, strict=True)
        return (np.stack([geometry.frame(frame) for frame in frames]),
                np.stack([geometry.mask(mask) for mask in masks]))

    def _slots(
        self, shown: np.ndarray, kept: list[int], rng: np.random.Generator
    ) -> tuple[np.ndarray, list[int]]:
        """Returns a table uint8 [256] from ids to slots, and the ids that have a slot, in order.

        Args:
          shown: bool [T, 256], the values that occur in each frame's mask.
          kept: ids of the objects of a class.
          rng: randomness.
        """
        ids = np.array([k for k in sorted(kept) if shown[:, k].any()], int)
        if len(ids) > self.config.objects:
            order = rng.permutation(len(ids)) if self.train else np.arange(len(ids))
            order = order[np.argsort(~shown[-1, ids[order]], kind="stable")]
            left, ids = ids[order[self.config.objects:]], ids[order[:self.config.objects]]
        else:
            left = ids[:0]
        ids = np.sort(ids)
        slots = np.zeros(256, np.uint8)
        slots[left] = slots[VOID] = VOID
        slots[ids] = np.arange(1, len(ids) + 1)
        return slots, ids.tolist()

    def _audio(self, record: Record, chosen: np.ndarray) -> dict[str, np.ndarray]:
        if not record.audio:
            return {"audio": silent_patches(len(chosen)),
                    "audio_valid": np.zeros(len(chosen), bool)}
        where = f"{self.dataset.name} video {record.video_id}"
        samples = decode_audio(record.audio, where)
        # Audio and frames of a record start and, if no frame rate is known, end together.
        fps = record.fps or len(record.frames) * SAMPLE_RATE / max(len(samples), 1)
        return {"audio": frame_patches(samples, chosen.tolist(), fps),
                "audio_valid": np.ones(len(chosen), bool)}
