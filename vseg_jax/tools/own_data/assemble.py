"""From annotations and videos to the masks of each frame, with every problem found at once."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from vseg_jax.index_masks import VOID
from vseg_jax.inference.prompts.files import frame_numbers
from vseg_jax.input_pipeline.builders import coco, files
from vseg_jax.tools.own_data.annotations import Annotation, Shape
from vseg_jax.tools.own_data.videos import Source, name_of

Key = tuple[str, str]  # label and track of an object
_NUMBERED = re.compile(r"(.*[^\s_#-])[\s_#-]+[0-9]+")  # "dog_2"
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio calls frame_7.jpg "1b3a8b2e-frame_7.jpg"


@dataclasses.dataclass
class Labeled:
    """A video with its annotations.

    Attributes:
      source: the video.
      annotations: by frame, in order.
      names: of the objects, by id.
      categories: of the objects, by id; objects of index masks have none.
      keys: ids of the objects, by what makes shapes the same object.
      seen: for each annotated frame, the ids of the objects that it shows.
    """

    source: Source
    annotations: dict[int, Annotation]
    names: dict[int, str] = dataclasses.field(default_factory=dict)
    categories: dict[int, str] = dataclasses.field(default_factory=dict)
    keys: dict[Key, int] = dataclasses.field(default_factory=dict)
    seen: dict[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def index(self, frame: int) -> UInt8[np.ndarray, "H W"]:
        """Returns the index mask of an annotated frame; where two objects overlap, the smaller one
        gets the pixels.

        Raises:
          ValueError: an index mask or a shape cannot be used, or an object has no pixel; names the
            file and the entry.
        """
        annotation, size = self.annotations[frame], self.source.size
        if annotation.mask is not None:
            index = files.read_mask(annotation.mask)
            files.check_size(annotation.mask, index.shape, size, self._called(frame))
            return index
        masks: dict[int, np.ndarray] = {}
        for shape in annotation.shapes:
            mask = coco.mask_of(shape.segmentation, size, shape.where)
            if not mask.any():
                raise ValueError(f"{shape.where} is empty: it covers no pixel of the frame")
            number = self.keys[key_of(shape)]
            masks[number] = masks[number] | mask if number in masks else mask
        index = files.paint(list(masks.items()), size)
        if hidden := [self.names[number] for number in masks if not (index == number).any()]:
            raise ValueError(f"{annotation.where}: {hidden[0]} is completely under other objects "
                             "(where two overlap, the smaller one gets the pixels); cut it out of "
                             "them or leave it out")
        return index

    def _called(self, frame: int) -> str:
        images = self.source.frames
        return str(images[frame]) if images else f"frame {frame} of {self.source.path}"


def label_videos(
    videos: Mapping[str, Source], annotations: Sequence[Annotation]
) -> tuple[list[Labeled], list[str]]:
    """Returns the videos that have annotations, in order, and all problems."""
    problems: list[str] = []
    by_video: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        places = dict.fromkeys(name_of(place) for place in annotation.places)
        fitting = list(videos) if len(videos) == 1 else [p for p in places if p in videos]
        if len(fitting) != 1:
            problems.append(
                f"{annotation.where}: it is not clear to which video it belongs "
                f"({files.first_names(fitting or videos)}); put the masks of each video in a "
                "folder or file with the name of the video")
            continue
        by_video.setdefault(fitting[0], []).append(annotation)
    labeled = [_label(videos[name], by_video[name], problems) for name in videos
               if name in by_video]
    return labeled, problems


def _label(source: Source, annotations: list[Annotation], problems: list[str]) -> Labeled:
    """Assigns annotations to frames and shapes to objects; appends to `problems`."""
    found = Labeled(source, {})
    names = [path.stem for path in source.frames]
    written = [a.frame if a.frame in names else _UPLOADED.sub(r"\1", a.frame)
               for a in annotations if isinstance(a.frame, str)]
    numbers = iter(frame_numbers(written, names))
    for annotation in annotations:
        number = annotation.frame if isinstance(annotation.frame, int) else next(numbers)
        if fault := _misplaced(found, annotation, number):
            problems.append(fault)
        else:
            assert number is not None
            found.annotations[number] = annotation
    found.annotations = dict(sorted(found.annotations.items()))
    kinds = {annotation.mask is None for annotation in found.annotations.values()}
    if len(kinds) > 1:
        problems.append(f"{source.name} has both index masks (PNG) and shapes (JSON, XML); give "
                        "the masks of a video in one form")
        return found
    if True in kinds:
        problems += _number(found)
    if len(found.keys) >= VOID:
        return found
    for frame in found.annotations:
        try:
            index = found.index(frame)
        except ValueError as error:
            problems.append(str(error))
            continue
        found.seen[frame] = tuple(
            int(i) for i in np.flatnonzero(np.bincount(index.ravel(), minlength=256))
            if i not in (0, VOID))
    if False in kinds:
        ids = sorted({i for shown in found.seen.values() for i in shown})
        found.names = {i: f"object {i}" for i in ids}
    if found.annotations and not problems and not any(found.seen.values()):
        problems.append(f"{source.name}: no mask shows an object "
                        f"({next(iter(found.annotations.values())).where}, ...)")
    return found


def _misplaced(found: Labeled, annotation: Annotation, number: int | None) -> str:
    """Returns the problem of an annotation's frame or size, or ''."""
    source = found.source
    images = source.frames
    if number is None or number < 0 or (images and number >= len(images)):
        wanted = (f"the images are {images[0].name} to {images[-1].name}, {len(images)} of them"
                  if images else "the frames of a video file have the numbers 0, 1, ...")
        return f"{annotation.where}: {source.path} has no frame '{annotation.frame}'; {wanted}"
    if number in found.annotations:
        return (f"{annotation.where} and {found.annotations[number].where} are both of frame "
                f"{number} of {source.name}; leave one")
    if annotation.size not in (None, source.size):
        return (f"{annotation.where} is {annotation.size[0]}x{annotation.size[1]} (height x "
                f"width), but the frames of {source.path} are {source.size[0]}x{source.size[1]}; "
                "take the frames that were annotated, or export without resizing")
    return ""


def key_of(shape: Shape) -> Key:
    """Returns what makes shapes of several frames the same object."""
    return shape.label, shape.track


def _number(found: Labeled) -> list[str]:
    """Gives the objects ids in order of their appearance, names and categories; returns the
    problems."""
    problems = []
    for annotation in found.annotations.values():
        counts = Counter(key_of(shape) for shape in annotation.shapes)
        for (label, track), count in counts.items():
            if count > 1 and not track:
                problems.append(
                    f"{annotation.where} has {count} shapes '{label}' without an identity; give "
                    "the parts of one object one identity (group_id in LabelMe, a track in CVAT), "
                    f"different objects different ones, or the labels {label}_1, {label}_2")
            found.keys.setdefault((label, track), len(found.keys) + 1)
    if len(found.keys) >= VOID:
        problems.append(f"{found.source.name} has {len(found.keys)} objects; an index mask names "
                        f"at most {VOID - 1}: cut the video in parts")
    several = Counter(label for label, _ in found.keys)
    for (label, track), number in found.keys.items():
        base = None if track else _NUMBERED.fullmatch(label)
        found.names[number] = f"{label} {track}" if track and several[label] > 1 else label
        found.categories[number] = base[1] if base else label
    return problems
