"""Still images: a folder of images with index masks, each image a record of one frame.

Layout: `images/**/<name>.{jpg,jpeg,png}` and `masks/**/<name>.png` with the same names, including
subfolders. Several sets can lie side by side, in subfolders or told apart by how their names begin.
Masks are palette or gray PNGs whose values are the objects' ids (1 to 254, 255 void);
see `mask_files.index_of` for other forms. A file `categories.json` may name the objects:
{image: {object id: category}}. The first stage of training mask propagation generates its clips
from stills (`PropagationConfig.stills`), and `refer_stills` clips with expressions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

import numpy as np

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files
from vseg_jax.input_pipeline.unread import Unread
from vseg_jax.input_pipeline.video_builder import VideoBuilder

CATEGORIES = "categories.json"
Categories = dict[int, str]  # of the objects of an image, by their ids


@dataclasses.dataclass(frozen=True)
class Options:
    """The folders below the source, and which of their images are used."""

    images: str = "images"
    masks: str = "masks"
    # Beginnings of the paths below `images`, such as "people/" or "people_"; () takes all.
    sets: tuple[str, ...] = ()


class Builder(VideoBuilder):
    """Builds one record per image; `options` is an `Options`. The only split is train."""

    name = "stills"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        pairs = read_pairs(self.source, self.options)
        categories = read_categories(self.source, pairs, self.options)
        return {"train": [Unread(record, name, *paths, categories.get(name, {}))
                          for name, paths in pairs.items()]}


def verify(source: Path, options: Options) -> list[str]:
    """Returns the problems of a folder: images without mask or vice versa, damaged or bad files."""
    try:
        images, masks = read_folders(source, options)
        read_categories(source, images, options)
    except ValueError as error:
        return [str(error)]
    problems = _missing(images, masks)
    problems += files.broken([*images.values(), *masks.values()])
    for path in filter(files.is_whole, masks.values()):
        try:
            files.read_mask(path)
        except ValueError as error:
            problems.append(str(error))
    return problems


def read_folders(source: Path, options: Options) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns {name: path} of the images and of the masks; a name is a path without suffix.

    Raises:
      ValueError: no image, a set without an image, or two images with the same name.
    """
    sets = options.sets or ("",)
    folder = source / options.images
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in files.FRAMES and not path.name.startswith("."):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if not name.startswith(sets):
                continue
            if name in found:
                raise ValueError(f"{found[name]} and {path} have the same name, but there is "
                                 "one mask for it: rename one of them")
            found[name] = path
    if lost := [name for name in sets if not any(path.startswith(name) for path in found)]:
        which = f" whose path begins with '{lost[0]}'" if options.sets else ""
        raise ValueError(f"there is no image ({', '.join(files.FRAMES)}){which} in {folder}; the "
                         "options 'images' and 'masks' name the folders below the source, 'sets' "
                         "how the images' paths begin")
    folder = source / options.masks
    masks = {path.relative_to(folder).with_suffix("").as_posix(): path
             for path in sorted(folder.rglob("*"))
             if path.suffix.lower() == ".png" and not path.name.startswith(".")}
    return found, {name: path for name, path in masks.items() if name.startswith(sets)}


def read_pairs(source: Path, options: Options) -> dict[str, tuple[Path, Path]]:
    """Returns {name: (image, mask)}.

    Raises:
      ValueError: see `read_folders`; an image without a mask, or a mask without an image.
    """
    images, masks = read_folders(source, options)
    if problems := _missing(images, masks):
        raise ValueError(f"the stills in {source} are incomplete: {'; '.join(problems)}")
    return {name: (path, masks[name]) for name, path in images.items()}


def _missing(images: dict[str, Path], masks: dict[str, Path]) -> list[str]:
    problems = []
    if lost := [name for name in images if name not in masks]:
        problems.append(f"images without a mask: {files.first_names(lost, len(images))}")
    if lost := [name for name in masks if name not in images]:
        problems.append(f"masks without an image: {files.first_names(lost, len(masks))}")
    return problems


def read_categories(
    source: Path, images: Collection[str], options: Options
) -> dict[str, Categories]:
    """Returns {image: {object id: category}} of the file `categories.json`; {} if there is none.

    Args:
      source: folder of the stills.
      images: names of the images that are used.
      options: those that `sets` leaves out may be in the file, too.

    Raises:
      ValueError: the file has another form, an empty name, or an image that does not exist; names
        the image.
    """
    path = source / CATEGORIES
    if not path.is_file():
        return {}
    found = {name: entry for name, entry in files.read_categories(path, "image").items()
             if name.startswith(options.sets or ("",))}
    if lost := [name for name in found if name not in images]:
        raise ValueError(f"{path} names images that are not in {source / options.images}: "
                         f"{files.first_names(lost, len(found))}")
    return found


def object_ids(mask: np.ndarray, categories: Categories, name: str) -> list[int]:
    """Returns the ids of the objects in an index mask.

    Raises:
      ValueError: `categories` names another id; the message names the image.
    """
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    ids = [int(i) for i in values if i not in (0, VOID)]
    if unknown := sorted(categories.keys() - set(ids)):
        raise ValueError(f"{CATEGORIES}, '{name}' has categories of the objects {unknown}, but the "
                         f"mask has the objects {ids}")
    return ids


def record(name: str, image_path: Path, mask_path: Path, categories: Categories) -> records.Record:
    """Reads one image and its mask."""
    data, _ = files.read_image(image_path)
    size = records.decode_image(data, str(image_path)).shape[:2]  # rotated as its EXIF says
    mask = files.read_mask(mask_path)
    files.check_size(mask_path, mask.shape, size, image_path)
    return records.Record(
        video_id=name, frames=[data], masks=[records.encode_mask(mask)],
        height=size[0], width=size[1],
        objects=[records.Object(i, categories.get(i, ""))
                 for i in object_ids(mask, categories, name)],
    )
