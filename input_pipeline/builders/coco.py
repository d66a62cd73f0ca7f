"""COCO 2017 (Lin et al. 2014) as videos of one frame, for training with or before video datasets.

Layout: `annotations/instances_{train,val}2017.json` and `{train,val}2017/<file>.jpg`. Only the
categories that a video dataset shares are used, under its names (see `categories`), or all 80 of
COCO. Everything else is background, and images without these categories are left out.

Crowds are void. Outlines are filled by OpenCV, which differs from COCO's own filling in a few
pixels of the border.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files
from vseg_jax.input_pipeline.categories import COCO, from_coco
from vseg_jax.input_pipeline.categories import OFFICIAL as CATEGORIES
from vseg_jax.input_pipeline.unread import Unread
from vseg_jax.input_pipeline.video_builder import VideoBuilder
from vseg_jax.run_lengths import decode_rle

SPLITS = {"train": "train2017", "val": "val2017"}
OFFICIAL = {"train": 118287, "val": 5000}  # images
FINE = 5  # subpixels along a pixel's side for filling outlines; odd
FARTHEST = 1_000_000  # of a coordinate of an outline; OpenCV's are small integers


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of COCO."""

    # The dataset whose categories are used; "all": COCO's own.
    names: Literal["youtube_vis_2019", "youtube_vis_2021", "ovis", "all"] = "youtube_vis_2019"


@dataclasses.dataclass(frozen=True)
class Image:
    """One image with its parts: (category, crowd, outlines or code, description for errors)."""

    path: Path
    size: tuple[int, int]  # height, width
    parts: list[tuple[str, bool, Any, str]]


class Builder(VideoBuilder):
    """Builds COCO; `options` is an `Options`."""

    name = "coco"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        if problems := [p for part in self._found.items() for p in _missing(*part)]:
            raise ValueError(f"COCO in {self.source} is incomplete: {'; '.join(problems)}; extract "
                             "the archive again")
        shown = {split: [i for i in images if any(not crowd for _, crowd, *_ in i.parts)]
                 for split, images in self._found.items()}
        return {split: [Unread(record, i) for i in images] for split, images in shown.items()}

    def categories(self) -> Sequence[records.Category]:
        """Returns the categories of the video dataset, or of COCO, numbered from 1."""
        chosen = self.options.names
        names = COCO.values() if chosen == "all" else CATEGORIES[chosen]
        return [records.Category(k, name) for k, name in enumerate(names, 1)]

    @functools.cached_property
    def _found(self) -> dict[str, list[Image]]:
        return read(self.source, self.options)


def verify(
    source: Path, options: Options, official: Mapping[str, int] = OFFICIAL
) -> list[str]:
    """Returns the problems of a download: counts, missing images, truncated images."""
    try:
        found = read(source, options)
    except ValueError as error:
        return [str(error)]
    problems = []
    for split, count in official.items():
        if split not in found:
            problems.append(f"there is no annotations/instances_{SPLITS[split]}.json")
        elif len(found[split]) != count:
            problems.append(f"{split} has {len(found[split])} images; the official one has {count}")
    for split, images in found.items():
        problems += _missing(split, images)
        paths = [i.path for i in images if i.path.is_file()]
        problems += files.broken(paths, split)
    return problems


def read(source: Path, options: Options) -> dict[str, list[Image]]:
    """Returns the images of every split that has an annotation file, in order of their names.

    Raises:
      ValueError: no annotation file, or a file that cannot be read (names path and entry).
    """
    names = from_coco(options.names)
    found = {}
    for split, folder in SPLITS.items():
        path = source / "annotations" / f"instances_{folder}.json"
        if path.is_file():
            found[split] = _read(path, source / folder, names)
    if not found:
        raise ValueError(f"there is no annotations/instances_train2017.json in {source}: it is not "
                         "the folder of COCO (the one that holds annotations, train2017, val2017)")
    return found


def _read(path: Path, folder: Path, names: Mapping[int, str]) -> list[Image]:
    content = files.read_json(path)
    where = str(path)
    try:
        known = {c["id"] for c in content["categories"]}
        images = {}
        for entry in content["images"]:
            where = f"{path}, image {entry.get('id')}"
            size = (entry["height"], entry["width"])
            images[entry["id"]] = Image(folder / entry["file_name"], size, [])
        for k, entry in enumerate(content["annotations"]):
            where = f"{path}, annotation {entry.get('id', k)}"
            if entry["category_id"] not in known:
                raise ValueError(f"{where} has the category_id {entry['category_id']!r}, which the "
                                 "file's categories do not list")
            if entry["image_id"] not in images:
                raise ValueError(f"{where} is of the image {entry['image_id']!r}, which the file "
                                 "does not list")
            if entry["category_id"] in names:
                images[entry["image_id"]].parts.append((
                    names[entry["category_id"]], bool(entry["iscrowd"]), entry["segmentation"],
                    where))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not the form of COCO annotations: {error!r}") from error
    return sorted(images.values(), key=lambda image: image.path)


def _missing(split: str, images: list[Image]) -> list[str]:
    if lost := [i.path for i in images if not i.path.is_file()]:
        return [f"{split}: missing images: {files.first_names(lost, len(images))}"]
    return []


def record(image: Image) -> records.Record:
    """Reads one image; its objects get the ids 1, 2, ... in the order of the file."""
    data, picture = files.read_image(image.path)
    files.check_size(image.path, (picture.height, picture.width), image.size, "its annotation")
    drawn = [(crowd, mask_of(part, image.size, where)) for _, crowd, part, where in image.parts]
    masks = [mask for crowd, mask in drawn if not crowd]
    index = files.paint(list(enumerate(masks, 1)), image.size)
    for crowd, mask in drawn:
        if crowd:
            index[mask & (index == 0)] = VOID
    kinds = [kind for kind, crowd, *_ in image.parts if not crowd]
    return records.Record(
        video_id=image.path.stem, frames=[data], masks=[records.encode_mask(index)],
        height=image.size[0], width=image.size[1],
        objects=[records.Object(k, kind) for k, kind in enumerate(kinds, 1)],
    )


def mask_of(part: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Returns the mask of an annotation's `segmentation`.

    Args:
      part: outlines [[x, y, x, y, ...], ...] in pixels, or a run-length code.
      size: (height, width) of the image.
      where: the annotation, for errors.

    Returns:
      bool [H, W].

    Raises:
      ValueError: it is neither, a coordinate is NaN or far outside, or the code has another size.
    """
    if isinstance(part, Mapping):
        mask = decode_rle(dict(part), where)
        records.check_size(mask, size, f"the run-length code of {where}")
        return mask
    try:
        outlines = [np.asarray(outline, float).reshape(-1, 2) for outline in part]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: an outline should be [x, y, x, y, ...]: {error}") from error
    mask = np.zeros(size, bool)
    for outline in outlines:
        if not outline.size or not (np.abs(outline) <= FARTHEST).all():   # NaN neither
            raise ValueError(f"{where}: an outline has no points, or coordinates that are not "
                             f"numbers of pixels between -{FARTHEST} and {FARTHEST}")
        low = np.clip(np.floor(outline.min(axis=0)), 0, size[::-1]).astype(int)
        high = np.clip(np.ceil(outline.max(axis=0)), 0, size[::-1]).astype(int)
        if (high <= low).any():
            continue
        # OpenCV also fills the pixels of the border. At FINE times the size they are thin, and the
        # middle of each pixel decides. COCO's coordinates are pixel edges, OpenCV's are centers.
        fine = np.zeros(FINE * (high - low)[::-1], np.uint8)
        points = np.rint(16 * (FINE * (outline - low) - 0.5)).astype(np.int32)
        cv2.fillPoly(fine, [points], 1, shift=4)
        mask[low[1]:high[1], low[0]:high[0]] |= fine[FINE // 2::FINE, FINE // 2::FINE] > 0
    return mask
