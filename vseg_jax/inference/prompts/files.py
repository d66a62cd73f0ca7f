"""Mask prompts in files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.mask_files import index_of
from vseg_jax.media.images import read_image
from vseg_jax.media.video import size_text


def read_masks(
    path: str | os.PathLike, names: Sequence[str] = ()
) -> tuple[dict[int, UInt8[np.ndarray, "H W"]], dict[int, list[int]]]:
    """Reads mask prompts.

    The PNGs of a folder end in the number of their frame: 00030.png, or mask_30.png if the names of
    all begin alike. Hidden files are ignored.

    Args:
      path: a file, for frame 0; a folder of PNGs; or a folder of such folders, each named by the id
        of an object, which is where its masks are not 0.
      names: of the frames, if they are images; each mask in a folder then has the name of its
        image, or ends in the same number.

    Returns:
      The index masks by frame number, and by frame number the ids of the objects that have a file;
      none where the files are index masks themselves.

    Raises:
      ValueError: a file does not exist or is not an index mask; one in a folder does not name a
        frame, or two name the same one; a folder does not name an object, or objects overlap.
    """
    path = Path(path)
    if not path.is_dir():
        return {0: _read_file(path)}, {}
    folders = [f for f in sorted(path.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    if _pngs(path) or not folders:
        return _read_folder(path, names), {}
    return _read_objects(path, folders, names)


def _pngs(path: Path) -> list[Path]:
    return sorted(f for f in path.iterdir()
                  if f.suffix.lower() == ".png" and not f.name.startswith("."))


def _read_objects(
    path: Path, folders: Sequence[Path], names: Sequence[str]
) -> tuple[dict[int, UInt8[np.ndarray, "H W"]], dict[int, list[int]]]:
    """Reads the masks of objects in a folder for each; see `read_masks`."""
    masks: dict[int, np.ndarray] = {}
    objects: dict[int, list[int]] = {}
    read: set[int] = set()
    for folder in folders:
        i = int(folder.name) if folder.name.isdecimal() else 0
        if not 0 < i < VOID or i in read:
            raise ValueError(f"{path} holds the folder {folder.name}; a folder without PNGs has "
                             "one folder for each object, named by its id, 1 to 254")
        read.add(i)
        for number, mask in _read_folder(folder, names).items():
            if len(values := np.unique(mask[mask > 0]).tolist()) > 1:
                raise ValueError(f"the mask of frame {number} in {folder} has the values "
                                 f"{', '.join(map(str, values[:3]))}; the mask of one object has 0 "
                                 "and one other value")
            index = masks.setdefault(number, np.zeros_like(mask))
            if mask.shape != index.shape:
                raise ValueError(f"the masks of frame {number} in {path} have different sizes: "
                                 f"{size_text(mask.shape)}, {size_text(index.shape)}")
            if other := int(index[mask > 0].max(initial=0)):
                raise ValueError(f"the masks of objects {other} and {i} in {path} overlap in frame "
                                 f"{number}; give each pixel to one object")
            index[mask > 0] = i
            objects.setdefault(number, []).append(i)
    return masks, objects


def _read_folder(path: Path, names: Sequence[str]) -> dict[int, UInt8[np.ndarray, "H W"]]:
    """Reads the PNGs of a folder by frame number; see `read_masks`."""
    files = _pngs(path)
    numbers = frame_numbers([f.stem for f in files], names)
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


def frame_numbers(stems: Sequence[str], names: Sequence[str]) -> list[int | None]:
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
