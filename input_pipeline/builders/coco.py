"""COCO 2017 (Lin et al. 2014) as videos of one frame, to train beside video instance segmentation.

Layout: `annotations/instances_{train,val}2017.json` and `{train,val}2017/<file>.jpg`. Only the
categories that another dataset shares are taken, under its names (`vseg_jax.input_pipeline.categories`); all
else is background, and images that show nothing of them are left out.

Crowds are void. Outlines are filled by OpenCV, which differs from COCO's own filling in some pixels
of the border.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files
from vseg_jax.input_pipeline.categories import OFFICIAL as CATEGORIES
from vseg_jax.input_pipeline.categories import from_coco
from vseg_jax.input_pipeline.video_builder import VideoBuilder
from vseg_jax.run_lengths import decode_rle

SPLITS = {"train": "train2017", "val": "val2017"}
OFFICIAL = {"train": 118287, "val": 5000}  # images
FINE = 5  # subpixels a pixel's side, odd, where outlines are filled


@dataclasses.dataclass(frozen=True)
class Options:
    """How COCO is read."""

    names: Literal["youtube_vis_2019", "youtube_vis_2021", "ovis"] = "youtube_vis_2019"


@dataclasses.dataclass(frozen=True)
class Image:
    """One image: (category, crowd or not, outlines or code, what it is) of what is taken of it."""

    path: Path
    size: tuple[int, int]  # height, width
    parts: list[tuple[str, bool, Any, str]]


class Builder(VideoBuilder):
    """COCO records; `options` is an `Options`."""

    name = "coco"

    def splits(self):
        """Raises a ValueError that lists what is missing before the first record is read."""
        if problems := [p for part in self._found.items() for p in _missing(*part)]:
            raise ValueError(f"COCO in {self.source} is not whole: {'; '.join(problems)}; extract "
                             "the archive again")
        shown = {split: [i for i in images if any(not crowd for _, crowd, *_ in i.parts)]
                 for split, images in self._found.items()}
        return {split: map(record, images) for split, images in shown.items()}

    def categories(self):
        return [records.Category(k, n) for k, n in enumerate(CATEGORIES[self.options.names], 1)]

    @functools.cached_property
    def _found(self) -> dict[str, list[Image]]:
        return read(self.source, self.options)


def verify(
    source: Path, options: Options, official: Mapping[str, int] = OFFICIAL
) -> list[str]:
    """What is wrong with the download: counts, missing images, images cut off."""
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
        if broken := [p for p in paths if not files.is_whole(p)]:
            problems.append(f"{split}: files cut off or not images: "
                            f"{files.first_names(broken, len(paths))}")
    return problems


def read(source: Path, options: Options) -> dict[str, list[Image]]:
    """The images of every split whose annotation file is there, in order of their names.

    Raises:
      ValueError: no annotation file, or one that cannot be read (names path and entry).
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
        for said in content["images"]:
            where = f"{path}, image {said.get('id')}"
            images[said["id"]] = Image(folder / said["file_name"],
                                       (said["height"], said["width"]), [])
        for k, said in enumerate(content["annotations"]):
            where = f"{path}, annotation {said.get('id', k)}"
            if said["category_id"] not in known:
                raise ValueError(f"{where} has the category_id {said['category_id']!r}, which the "
                                 "file's categories do not list")
            if said["image_id"] not in images:
                raise ValueError(f"{where} is of the image {said['image_id']!r}, which the file "
                                 "does not list")
            if said["category_id"] in names:
                images[said["image_id"]].parts.append((
                    names[said["category_id"]], bool(said["iscrowd"]), said["segmentation"], where))
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
    drawn = [(crowd, _mask(part, image.size, where)) for _, crowd, part, where in image.parts]
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


def _mask(part: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """bool [H, W] of outlines [[x, y, x, y, ...], ...] or of a run-length code."""
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
        low = np.clip(np.floor(outline.min(axis=0)), 0, size[::-1]).astype(int)
        high = np.clip(np.ceil(outline.max(axis=0)), 0, size[::-1]).astype(int)
        if (high <= low).any():
            continue
        # OpenCV fills the border's pixels too: at FINE times the size they are thin, and what
        # counts is the middle of each pixel. The numbers are edges of pixels, OpenCV's are centers.
        fine = np.zeros(FINE * (high - low)[::-1], np.uint8)
        points = np.rint(16 * (FINE * (outline - low) - 0.5)).astype(np.int32)
        cv2.fillPoly(fine, [points], 1, shift=4)
        mask[low[1]:high[1], low[0]:high[0]] |= fine[FINE // 2::FINE, FINE // 2::FINE] > 0
    return mask
