"""Index masks that users give: read, checked, and their ids mapped to a model's slots.

An index mask is [H, W]: 0 is background, the other values (1 to 254) are the ids of the objects on
whose pixels they stand. A model has slots, 1 to N; objects take them in the order in which they
enter. `ids` are those of the objects in the slots; 0 is a slot that is free again.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.mask_files import RECIPE, index_of
from vseg_jax.media.images import read_image


def read_masks(
    path: str | os.PathLike, names: Sequence[str] = ()
) -> dict[int, UInt8[np.ndarray, "H W"]]:
    """Returns masks by frame number: of a file for frame 0, of a folder from its PNGs.

    The PNGs of a folder end in the number of their frame: 00030.png, or mask_30.png if the names of
    all begin alike. Hidden files are ignored.

    Args:
      path: the file or folder.
      names: of the frames, if they are images; each mask in a folder then has the name of its
        image, or ends in the same number.

    Raises:
      ValueError: the file does not exist or is not an index mask; a file in the folder does not
        name a frame, or two name the same one.
    """
    path = Path(path)
    if not path.is_dir():
        return {0: _read_file(path)}
    files = sorted(f for f in path.iterdir()
                   if f.suffix.lower() == ".png" and not f.name.startswith("."))
    numbers = _frame_numbers([f.stem for f in files], names)
    wrong = [f.name for f, number in zip(files, numbers, strict=True) if number is None]
    if wrong or not files:
        wanted = (f"as the image of their frame: {names[0]}.png" if names else
                  "by the number of their frame: 00000.png, 00030.png")
        raise ValueError(f"{path} holds {wrong[0] if wrong else 'no PNG'}; masks in a folder are "
                         f"named {wanted}")
    of_frame: dict[int, Path] = {}
    for file, number in zip(files, numbers, strict=True):
        assert number is not None
        if number in of_frame:
            raise ValueError(f"{path} holds {of_frame[number].name} and {file.name}, two masks of "
                             f"frame {number}; leave one")
        of_frame[number] = file
    return {number: _read_file(file) for number, file in of_frame.items()}


def _frame_numbers(stems: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """Returns the frame that each mask's name means, None where it means none; see `read_masks`."""
    ends = _end_numbers(stems)
    if not names:
        return ends
    by_name = {name: frame for frame, name in enumerate(names)}
    of_images = _end_numbers(names)
    by_end: dict[int | None, int] = {}
    if len({*of_images} - {None}) == len(names):   # numbered throughout
        by_end = {number: frame for frame, number in enumerate(of_images)}
    return [by_name.get(stem, by_end.get(end)) for stem, end in zip(stems, ends, strict=True)]


def _end_numbers(names: Sequence[str]) -> list[int | None]:
    """Returns the number at the end of each name; None where the text before it is not that of the
    others (of the shortest one)."""
    parts = [re.fullmatch(r"(.*?)([0-9]+)", name) for name in names]
    shortest = min((part[1] for part in parts if part), key=len, default="")
    return [int(part[2]) if part and part[1] == shortest else None for part in parts]


def _read_file(path: Path) -> UInt8[np.ndarray, "H W"]:
    if not path.is_file():
        raise ValueError(f"there is no mask {path}")
    return index_of(read_image(path), f"the mask {path}")


def check_mask(
    mask: Any, size: tuple[int, int], frame: int, empty: bool = False
) -> UInt8[np.ndarray, "H W"]:
    """Returns the mask of frame number `frame`, which has `size` (height, width), as uint8.

    True in a bool mask is object 1; integers of any type are accepted. Only if it may be `empty`,
    it needs no object.

    Raises:
      ValueError: the mask has the wrong shape, type or values; the message says what is wanted.
    """
    mask, name = np.asarray(mask), f"the mask of frame {frame}"
    if mask.ndim != 2:
        colors = "; this is an image with colors" if mask.ndim == 3 else ""
        raise ValueError(f"{name} is {mask.dtype} {mask.shape}{colors}: {RECIPE}")
    if mask.dtype.kind not in "biu":
        raise ValueError(f"{name} is {mask.dtype}; a mask holds integers: 0 for background and an "
                         "object's id on its pixels")
    if mask.shape != size:
        raise ValueError(f"{name} is {mask.shape[1]} x {mask.shape[0]}, its frame {size[1]} x "
                         f"{size[0]}; give it at the frame's size (resize with nearest neighbors)")
    low, high = int(mask.min()), int(mask.max())
    if high == VOID:
        raise ValueError(f"{name} has the value 255, which stands for unknown (void); write the "
                         "object as 1, and unknown pixels as 0")
    if low < 0 or high > VOID:
        raise ValueError(f"{name} has the value {low if low < 0 else high}; ids are 1 to 254")
    if high == 0 and not empty:
        raise ValueError(f"{name} has no object: every pixel is 0; write the object as 1 "
                         "(Session.step takes the ids of objects that are gone as `objects`)")
    return mask.astype(np.uint8)


def id_list(ids: Any, name: str) -> list[int]:
    """Returns any collection of ids as a list.

    Raises:
      ValueError: these are not ids; the message says that it is about `name`.
    """
    if not isinstance(ids, Collection) or (isinstance(ids, np.ndarray) and not ids.ndim):
        raise ValueError(f"{name} is {ids!r}; give a list of ids")
    wrong = [i for i in ids if isinstance(i, bool) or not isinstance(i, int | np.integer)
             or not 0 < i < VOID]
    if wrong:
        raise ValueError(f"{name} has {wrong[0]!r}; ids are integers from 1 to 254")
    return [int(i) for i in ids]


def check_objects(
    objects: list[int], ids: tuple[int, ...], mask: UInt8[np.ndarray, "H W"], frame: int
) -> UInt8[np.ndarray, "H W"]:
    """Returns the mask without the objects that it does not speak for.

    Args:
      objects: ids that the mask of frame number `frame` speaks for.
      ids: of the slots.
      mask: checked.

    Raises:
      ValueError: one is unknown and has no pixel.
    """
    mask = np.where(np.isin(mask, objects), mask, np.uint8(0))
    unknown = sorted(set(objects) - set(ids) - set(object_ids(mask)))
    if unknown:
        raise ValueError(f"object {unknown[0]} is unknown and has no pixel in the mask of frame "
                         f"{frame}; an object enters with its pixels")
    return mask


def add_ids(
    ids: tuple[int, ...], mask: UInt8[np.ndarray, "H W"], capacity: int
) -> tuple[int, ...]:
    """Returns the ids of slots 1, 2, ...: the known ones, and the new ones of a mask.

    New ones take the slots that are free again, then further ones. Warns if the ids are not 1, 2,
    ... without a gap, because such a mask is often a photograph.

    Raises:
      ValueError: there are more ids than the model has slots.
    """
    new = [i for i in object_ids(mask) if i not in ids]
    slots = [i or (new.pop(0) if new else 0) for i in ids] + new
    before, found = ([i for i in x if i] for x in (ids, slots))
    if len(found) > capacity:
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        raise ValueError(
            f"{len(found)} objects ({shown}), but the model was built for {capacity}: give fewer, "
            "remove() those that are gone, or build it with a higher model.objects (a grayscale "
            "image is not an index mask)"
        )
    gaps, had_gaps = (sorted(x) != list(range(1, len(x) + 1)) for x in (found, before))
    if gaps and not had_gaps:
        warnings.warn(f"the objects' ids have gaps: {', '.join(map(str, sorted(found)))}; they are "
                      "kept (a grayscale image is not an index mask)", stacklevel=2)
    return tuple(slots)


def object_ids(mask: UInt8[np.ndarray, "H W"]) -> list[int]:
    """Returns the ids in a mask in ascending order."""
    return (np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[1:VOID]) + 1).tolist()


def to_slots(
    mask: UInt8[np.ndarray, "H W"], ids: tuple[int, ...]
) -> UInt8[np.ndarray, "H W"]:
    """Returns the mask with each id replaced by the number of its slot."""
    table = np.zeros(256, np.uint8)
    table[list(ids)] = np.arange(1, len(ids) + 1)
    table[0] = 0   # free slots
    return table[mask]
