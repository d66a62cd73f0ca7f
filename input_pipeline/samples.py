"""Samples of referring video segmentation: a clip, an expression, and the mask of its object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline import sample_lists
from vseg_jax.input_pipeline.clips import clip_frames
from vseg_jax.input_pipeline.flow import flow_to_image
from vseg_jax.input_pipeline.frames import read_flow, read_frame, read_mask
from vseg_jax.input_pipeline.records import UNKNOWN_OBJECT, Dataset, IndexEntry, Record
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import Tokenizer, swap_sides
from vseg_jax.input_pipeline.transforms import (
    Geometry,
    apply_color,
    plain_geometry,
    random_color,
    random_geometry,
)


@dataclasses.dataclass(frozen=True)
class Truth:
    """The ground truth of a sample.

    Attributes:
      mask: index mask uint8 [h, w] at the original size.
      object_id: id of the named object in the mask.
      video_id: the video.
      frame: number of the target frame.
      text: the expression that the model gets.
      differs_in: see `Expression`.
      category: of the named object.
    """

    mask: np.ndarray
    object_id: int
    video_id: str
    frame: int
    text: str
    differs_in: str
    category: str


class ReferringSamples:
    """Random access to (clip, expression, annotated frame that shows the named object).

    Args:
      dataset: an opened dataset.
      clip: frames, geometry and (in training) augmentation.
      tokenizer: `encode(text) -> (int32 [L], bool [L])`.
      train: whether clips are augmented.
      seed: of the augmentation of `samples[i]`.
      styles: keeps only expressions of these styles; () keeps all.
      categories: keeps only expressions that name objects of these categories; () keeps all.
      shuffle_expressions: gives every sample the expression of another object of its clip (the next
        named object, cyclically) and drops clips with a single named object. If no clip has more
        than one, a sample gets an expression of another video: of the one half of the videos
        further on, cyclically. A model that uses the expression must score far lower on these
        samples.
      frames: annotated frames taken for each expression, evenly spread over those that show its
        object (J-HMDB-Sentences is scored on 3); 0 takes all.
      listed: a file that lists the samples to take, in place of `frames`; see
        `vseg_jax.input_pipeline.sample_lists`. "" takes all.
      flow: adds `flow` to the samples: for each frame the color image of the flow to the video's
        next frame. It is painted at the original size and then gets the frame's geometry and color,
        as in MMVT's public code. In a mirrored clip u is negated before painting.
      first_video: number of the first record in `video`. In a mixture of datasets, no two videos
        have the same number.

    Raises:
      ValueError: no sample is left, or `flow` is asked for and the dataset has none.
    """

    def __init__(
        self, dataset: Dataset, clip: ClipConfig, tokenizer: Tokenizer, *, train: bool,
        seed: int = 0, styles: tuple[str, ...] = (), categories: tuple[str, ...] = (),
        shuffle_expressions: bool = False, frames: int = 0, flow: bool = False,
        first_video: int = 0, listed: str = "",
    ):
        self.dataset = dataset
        self.clip = clip
        self.tokenizer = tokenizer
        self.train = train
        self.seed = seed
        self.flow = flow
        self.first_video = first_video
        rows = _rows(dataset, styles, categories, shuffle_expressions, 0 if listed else frames)
        if listed:
            chosen = sample_lists.choose(listed, dataset.index, dataset.name)
            rows = [row for row in rows if (row[0], row[1], row[-1]) in chosen]
        if not rows:
            raise ValueError(
                f"{dataset.name} has no sample with styles {styles or 'any'}, categories "
                f"{categories or 'any'}, shuffle_expressions={shuffle_expressions}"
                + (f", that {listed} lists" if listed else "")
            )
        if flow:  # fail here rather than in a loader worker
            self._check_flow(rows[0][0], rows[0][-1])
        # record, expression that names the object, record and expression that the model gets, frame
        self._rows = np.array(rows, np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def _check_flow(self, number: int, frame: int) -> None:
        """Raises a ValueError unless a sample's record has the flow of the widest clip."""
        clip, record = self.clip, self.dataset[number]
        stride = max(clip.stride, clip.stride_max if self.train else 0)
        frames = [frame] if clip.annotated else clip_frames(
            frame, len(record.frames), clip.length, stride, clip.target)
        for t in sorted({*frames, frame}):
            read_flow(self.dataset, record, int(t))

    @property
    def texts(self) -> list[str]:
        """The distinct expressions that the model gets, sorted."""
        index = self.dataset.index
        pairs = np.unique(self._rows[:, 2:4], axis=0)
        return sorted({index[source].expressions[read].text for source, read in pairs})

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        """Returns sample `i`, with augmentation drawn from (seed, i)."""
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        return self.sample(i, np.random.default_rng((self.seed, int(i))), step=0)

    def sample(self, i: int, rng: np.random.Generator, step: int) -> dict[str, np.ndarray]:
        """Returns sample `i`, augmented with `rng`: a batch of `vseg_jax.tasks.rvos` without B."""
        del step  # augmentation does not change during training
        number, named, source, read, frame = (int(v) for v in self._rows[i])
        record, clip = self.dataset[number], self.clip
        object_id = record.expressions[named].object_id
        text = self.dataset.index[source].expressions[read].text
        target_mask = read_mask(self.dataset, record, frame)
        if self.train:
            geometry = random_geometry(
                record.height, record.width, clip, rng, target_mask == object_id
            )
        else:
            geometry = plain_geometry(record.height, record.width, clip)
        color = random_color(clip.color, rng) if self.train and np.any(clip.color) else None

        chosen = self._chosen(number, frame, rng)
        distinct, place = np.unique(chosen, return_inverse=True)
        frames = np.empty((len(distinct), *geometry.size, 3), np.uint8)
        masks = np.full((len(distinct), *geometry.size), VOID, np.uint8)
        for k, t in enumerate(distinct):
            rgb = geometry.frame(read_frame(self.dataset, record, t))
            frames[k] = rgb if color is None else apply_color(rgb, color)
            if record.masks[t]:
                masks[k] = geometry.mask(
                    target_mask if t == frame else read_mask(self.dataset, record, t)
                )
        annotated = np.array([bool(record.masks[t]) for t in distinct])
        try:
            tokens, valid = self.tokenizer.encode(swap_sides(text) if geometry.flip else text)
        except ValueError as error:
            raise ValueError(f"{self.dataset.name} video {record.video_id}: {error}") from error
        sample = {
            "frames": frames[place],
            "masks": masks[place],
            "masks_valid": annotated[place] & _counted(chosen, clip.target),
            "target": np.int32(clip.target),
            "object_id": np.int32(object_id),
            "tokens": tokens,
            "tokens_valid": valid,
            "video": np.int32(self.first_video + number),
            "sample": np.int32(i),
            "valid": np.bool_(True),
            "geometry": geometry.affine,
        }
        if self.flow:
            pictures = [self._flow(record, t, geometry, color) for t in distinct]
            sample["flow"] = np.stack(pictures)[place]
        return sample

    def _chosen(self, number: int, frame: int, rng: np.random.Generator) -> np.ndarray:
        """Returns the frame numbers of a clip around `frame`."""
        clip, entry = self.clip, self.dataset.index[number]
        stride = clip.stride
        if self.train and clip.stride_max:
            stride = rng.integers(stride, clip.stride_max, clip.length - 1, endpoint=True)
        if not clip.annotated:
            return clip_frames(frame, entry.length, clip.length, stride, clip.target)
        place, count = entry.annotated.index(frame), len(entry.annotated)
        places = clip_frames(place, count, clip.length, stride, clip.target)
        return np.array(entry.annotated)[places]

    def _flow(self, record: Record, t: int | np.integer, geometry: Geometry,
              color: np.ndarray | None) -> np.ndarray:
        """Returns the flow from frame `t` to the next as an image of the input size."""
        flow = read_flow(self.dataset, record, t)
        if geometry.flip:
            flow = flow * np.float32([-1, 1])
        picture = geometry.frame(flow_to_image(flow))
        return picture if color is None else apply_color(picture, color)

    def truth(self, i: int) -> Truth:
        """Returns the ground truth of sample `i`."""
        number, named, source, read, frame = (int(v) for v in self._rows[i])
        record = self.dataset[number]
        expression = record.expressions[named]
        category = next(o.category for o in record.objects if o.id == expression.object_id)
        return Truth(
            mask=read_mask(self.dataset, record, frame), object_id=expression.object_id,
            video_id=record.video_id, frame=frame,
            text=self.dataset.index[source].expressions[read].text,
            differs_in=expression.differs_in, category=category,
        )


def expression_pairs(
    index: Sequence[IndexEntry], styles: tuple[str, ...] = (), categories: tuple[str, ...] = (),
    shuffle: bool = False,
) -> list[list[tuple[int, int, int]]]:
    """Returns for each record its expressions, object by object, as three numbers.

    The first is that of the expression that names the object. The others are those of the record
    and of the expression in it that the model gets. They differ from the record and the first only
    with `shuffle`. See `ReferringSamples` for the arguments.
    """
    kept = [_kept(entry, styles, categories) for entry in index]
    filled = [number for number, found in enumerate(kept) if found]
    over_videos = not any(len(found) > 1 for found in kept) and len(filled) > 1
    pairs: list[list[tuple[int, int, int]]] = [[] for _ in index]
    for place, number in enumerate(filled):
        objects = list(kept[number].values())
        for k, own in enumerate(objects):
            source, others = number, own
            if shuffle and over_videos:
                source = filled[(place + len(filled) // 2) % len(filled)]
                [others] = kept[source].values()
            elif shuffle:
                others = objects[(k + 1) % len(objects)] if len(objects) > 1 else []
            pairs[number] += [(named, source, others[n % len(others)] if shuffle else named)
                              for n, named in enumerate(own) if others]
    return pairs


def _kept(
    entry: IndexEntry, styles: tuple[str, ...], categories: tuple[str, ...]
) -> dict[int, list[int]]:
    """Returns {object id: numbers of its expressions}, in order of the ids."""
    objects = {o.id: o for o in entry.objects}
    kept: dict[int, list[int]] = {}
    for e, expression in enumerate(entry.expressions):
        if expression.object_id == UNKNOWN_OBJECT:
            continue
        category = objects[expression.object_id].category
        if (not styles or expression.style in styles) and (
            not categories or category in categories
        ):
            kept.setdefault(expression.object_id, []).append(e)
    return dict(sorted(kept.items()))


def _rows(dataset: Dataset, styles: tuple[str, ...], categories: tuple[str, ...],
          shuffle: bool, frames: int) -> list[tuple[int, int, int, int, int]]:
    rows = []
    pairs = expression_pairs(dataset.index, styles, categories, shuffle)
    for number, entry in enumerate(dataset.index):
        shown = {o.id: _spread(o.frames, frames) for o in entry.objects}
        for named, source, read in pairs[number]:
            rows += [(number, named, source, read, frame)
                     for frame in shown[entry.expressions[named].object_id]]
    return rows


def _counted(chosen: np.ndarray, target: int) -> np.ndarray:
    """Returns bool [T]: False for frames that repeat another one of the clip.

    Of a frame that fills several places one counts: the target's place, or else the first.
    """
    counted = np.zeros(len(chosen), bool)
    counted[np.unique(chosen, return_index=True)[1]] = True
    counted[chosen == chosen[target]] = False
    counted[target] = True
    return counted


def _spread(frames: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Returns `count` frames, the middles of equal parts; all if `count` is 0 or too large."""
    if not 0 < count < len(frames):
        return frames
    return tuple(frames[int((k + 0.5) * len(frames) / count)] for k in range(count))
