"""The stills that clips are made of: objects that are cut out, and backgrounds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files, stills
from vseg_jax.input_pipeline.builders.refer_stills.colors import Colors, measure

SMALLEST = 0.01     # share of its image that an object covers at least to be cut out
CONNECTED = 0.9     # share of its largest connected part at least
REMOVABLE = 0.3     # share of an image that its objects cover at most to be painted over
NO_NAMES: Mapping[str, str] = {}
_PAD = 2            # transparent pixels around an object
_SOFT = 0.8         # deviation of the blur of its edge, pixels


@dataclasses.dataclass(frozen=True)
class Still:
    """An image whose objects all have a category.

    Attributes:
      name: path without suffix, below the folder of images.
      image: the image file.
      mask: the file of its index mask.
      categories: of all its objects.
      whole: ids of the objects that can be cut out: they do not touch the border.
      covered: share of the image that is not background.
    """

    name: str
    image: Path
    mask: Path
    categories: stills.Categories
    whole: tuple[int, ...]
    covered: float


@dataclasses.dataclass(frozen=True)
class Cutout:
    """An object without its background.

    Attributes:
      rgba: uint8 [h, w, 4]; the colors are multiplied by the opacity.
      category: of the object.
      colors: of the object.
    """

    rgba: np.ndarray
    category: str
    colors: Colors


@dataclasses.dataclass(frozen=True)
class Background:
    """A picture for the background of a clip.

    Attributes:
      rgb: uint8 [h, w, 3].
      mask: index mask of the objects that stay in it.
      categories: of these objects.
      colors: of these objects, by their ids.
    """

    rgb: np.ndarray
    mask: np.ndarray
    categories: stills.Categories
    colors: dict[int, Colors]


def read_files(
    source: Path, sets: tuple[str, ...], names: Mapping[str, str]
) -> tuple[dict[str, tuple[Path, Path]], dict[str, stills.Categories]]:
    """Returns the images with their masks, and the categories of their objects, by their names.

    Args:
      source: folder of the stills.
      sets: those that are used; see `stills.Options`.
      names: new names of categories.

    Raises:
      ValueError: they do not fit together, or there are no categories.
    """
    options = stills.Options(sets=sets)
    pairs = stills.read_pairs(source, options)
    categories = stills.read_categories(source, pairs, options)
    if not any(categories.values()):
        raise ValueError(
            f"{source / stills.CATEGORIES} is missing or names no object of these images; "
            'expressions need the categories of the objects: {image: {"1": "dog", ...}}')
    found = {category for entry in categories.values() for category in entry.values()}
    if lost := sorted(names.keys() - found):
        raise ValueError(f"the option 'renamed' names {', '.join(lost)}, which no object is; there "
                         f"are {', '.join(sorted(found))}")
    return pairs, {image: {i: names.get(category, category) for i, category in entry.items()}
                   for image, entry in categories.items()}


def read_stock(
    source: Path, sets: tuple[str, ...], names: Mapping[str, str] = NO_NAMES
) -> list[Still]:
    """Returns the stills whose objects all have a category, in order of their names.

    Raises:
      ValueError: see `read_files`; or a mask cannot be read or lacks an object of its image.
    """
    pairs, categories = read_files(source, sets, names)
    found = (_still(name, *pairs[name], categories[name]) for name in sorted(categories))
    return [still for still in found if still is not None]


def _still(name: str, image: Path, path: Path, categories: stills.Categories) -> Still | None:
    """Returns a still; None if an object of it has no category."""
    mask = files.read_mask(path)
    ids = stills.object_ids(mask, categories, name)
    if set(ids) != set(categories):
        return None
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    whole = [i for i in ids if i not in edge and _is_solid(mask == i)]
    return Still(name, image, path, categories, tuple(whole), float((mask > 0).mean()))


def _is_solid(alone: np.ndarray) -> bool:
    size = int(alone.sum())
    if size < SMALLEST * alone.size:
        return False
    areas = cv2.connectedComponentsWithStats(alone.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
    return bool(areas.max() >= CONNECTED * size)


def divide(stock: Sequence[Still], held_out: float, seed: int) -> dict[str, list[Still]]:
    """Returns the stills of train and of test; see `files.draw` for which are held out.

    Raises:
      ValueError: a split would have no object to cut out.
    """
    count = math.ceil(held_out * len(stock))
    names = set(files.draw([still.name for still in stock], count, seed))
    parts = {"train": [still for still in stock if still.name not in names],
             "test": [still for still in stock if still.name in names]}
    for split, part in parts.items():
        if not any(still.whole for still in part):
            raise ValueError(
                f"none of the {len(part)} stills of {split} has an object that can be cut out: one "
                f"that does not touch the border and covers {SMALLEST:.0%} of its image; give more "
                "stills, or another share of them for test with the option 'held_out'")
    return parts


def cut_out(still: Still, object_id: int) -> Cutout:
    """Reads an object of a still."""
    rgb, mask = _read(still)
    alone = (mask == object_id).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(alone)
    rgb, alone = (a[top:top + height, left:left + width] for a in (rgb, alone))
    pads = ((_PAD, _PAD), (_PAD, _PAD))
    inner = cv2.erode(np.pad(alone, pads), np.ones((3, 3), np.uint8))
    opacity = cv2.GaussianBlur(inner * np.float32(1), (0, 0), _SOFT)
    colored = np.pad(rgb, (*pads, (0, 0)), mode="edge") * opacity[..., None]
    rgba = np.rint(np.dstack([colored, 255 * opacity])).astype(np.uint8)
    return Cutout(rgba, still.categories[object_id], _colors(rgb, alone))


def background(still: Still, keep: bool) -> Background:
    """Reads a still as a background, whose objects stay (`keep`) or are painted over."""
    rgb, mask = _read(still)
    if keep:
        colors = {i: _colors(rgb, (mask == i).astype(np.uint8)) for i in still.categories}
        return Background(rgb, mask, still.categories, colors)
    hidden = cv2.dilate((mask > 0).astype(np.uint8), np.ones((9, 9), np.uint8))
    bgr = cv2.inpaint(np.ascontiguousarray(rgb[..., ::-1]), hidden, 5, cv2.INPAINT_TELEA)
    return Background(np.ascontiguousarray(bgr[..., ::-1]), np.zeros_like(mask), {}, {})


def _read(still: Still) -> tuple[np.ndarray, np.ndarray]:
    rgb = records.decode_image(still.image.read_bytes(), str(still.image))
    mask = files.read_mask(still.mask)
    files.check_size(still.mask, mask.shape, rgb.shape[:2], still.image)
    return rgb, mask


def _colors(rgb: np.ndarray, alone: np.ndarray) -> Colors:
    """Returns the colors of an object, without its border, whose pixels are mixed."""
    inner = cv2.erode(alone, np.ones((3, 3), np.uint8), borderValue=1)
    return measure(rgb[(inner if inner.any() else alone) > 0])
