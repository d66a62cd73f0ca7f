"""Masks that users give: read, checked, and their objects' ids matched to a model's slots.

A mask is an index mask, [H, W]: 0 is background, an object's id (1 to 254) stands on its pixels.
A model knows slots 1..N of fixed number; objects get them in the order in which they appear.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vseg_jax.index_masks import VOID

_INDEX_PNG = ("a mask is an index PNG (gray or palette), 0 for background and an object's id on "
              "its pixels: PIL.Image.fromarray(index.astype('uint8')).save('mask.png')")


def read(path: str | os.PathLike) -> dict[int, UInt8[np.ndarray, "H W"]]:
    """Masks by frame number: of a PNG, that of frame 0; of a folder, those of its `<number>.png`.

    Raises:
      ValueError: no such file, no picture, or one with colors; a name that is no number.
    """
    path = Path(path)
    if not path.is_dir():
        return {0: _read_png(path)}
    files = sorted(path.glob("*.png"))
    wrong = [f.name for f in files if not f.stem.isdecimal()]
    if wrong or not files:
        raise ValueError(f"{path} holds {wrong[0] if wrong else 'no PNG'}; masks in a folder are "
                         "named by the number of their frame: 00000.png, 00030.png")
    return {int(f.stem): _read_png(f) for f in files}


def _read_png(path: Path) -> UInt8[np.ndarray, "H W"]:
    if not path.is_file():
        raise ValueError(f"there is no mask {path}")
    try:
        with Image.open(path) as image:
            mode, mask = image.mode, np.asarray(image)
    except OSError as error:
        raise ValueError(f"the mask {path} cannot be read ({error}); {_INDEX_PNG}") from error
    if mode not in ("P", "L", "1"):
        raise ValueError(f"the mask {path} is a {mode} picture; {_INDEX_PNG}")
    return mask.astype(np.uint8)


def checked(mask: Any, size: tuple[int, int], frame: int) -> UInt8[np.ndarray, "H W"]:
    """The mask of frame number `frame`, which is of `size` (height, width), as uint8.

    Bool masks are object 1, and any kind of integers will do.

    Raises:
      ValueError: what it is not.
    """
    mask, name = np.asarray(mask), f"the mask of frame {frame}"
    if mask.ndim != 2:
        colors = "; this is a picture with colors" if mask.ndim == 3 else ""
        raise ValueError(f"{name} is {mask.dtype} {mask.shape}{colors}: {_INDEX_PNG}")
    if mask.dtype.kind not in "biu":
        raise ValueError(f"{name} is {mask.dtype}; a mask holds integers: 0 for background and an "
                         "object's id on its pixels")
    if mask.shape != size:
        raise ValueError(f"{name} is {mask.shape[1]} x {mask.shape[0]}, its frame {size[1]} x "
                         f"{size[0]}; give it at the frame's size (resize it to the nearest)")
    low, high = int(mask.min()), int(mask.max())
    if high == VOID:
        raise ValueError(f"{name} has the value 255, which stands for unknown (void); write the "
                         "object as 1, and unknown pixels as 0")
    if low < 0 or high > VOID:
        raise ValueError(f"{name} has the value {low if low < 0 else high}; ids are 1 to 254")
    if high == 0:
        raise ValueError(f"{name} has no object: every pixel is 0; write the object as 1")
    return mask.astype(np.uint8)


def enter(
    ids: tuple[int, ...], mask: UInt8[np.ndarray, "H W"], capacity: int
) -> tuple[int, ...]:
    """The ids of slots 1, 2, ... with those of a mask after the ones that are known.

    Warns where the ids are not 1, 2, ... without a gap: often such a mask is none.

    Raises:
      ValueError: more ids than the model has slots.
    """
    found = ids + tuple(i for i in object_ids(mask) if i not in ids)
    if len(found) > capacity:
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        raise ValueError(
            f"{len(found)} objects ({shown}), but the model was built for {capacity}: give fewer, "
            "or build it with a higher model.objects (a picture in gray tones is no index mask)"
        )
    gaps, before = (sorted(x) != list(range(1, len(x) + 1)) for x in (found, ids))
    if gaps and not before:
        warnings.warn(f"the objects' ids jump: {', '.join(map(str, sorted(found)))}; they are kept "
                      "(a picture in gray tones is no index mask)", stacklevel=2)
    return found


def object_ids(mask: UInt8[np.ndarray, "H W"]) -> list[int]:
    """The ids in a mask, rising."""
    return (np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[1:VOID]) + 1).tolist()


def to_slots(
    mask: UInt8[np.ndarray, "H W"], ids: tuple[int, ...]
) -> UInt8[np.ndarray, "H W"]:
    """Ids replaced by their slots."""
    table = np.zeros(256, np.uint8)
    table[list(ids)] = np.arange(1, len(ids) + 1)
    return table[mask]
