"""Index masks from image files, in the forms in which programs save them."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vseg_jax.index_masks import VOID, palette

RECIPE = ("a mask is an index PNG (gray or palette), 0 for background and an object's id on its "
          "pixels: PIL.Image.fromarray(index.astype('uint8')).save('mask.png')")


def index_of(image: Image.Image, where: str) -> UInt8[np.ndarray, "H W"]:
    """Returns the index mask that an image holds.

    - Palette images: the indices, whatever their colors.
    - Gray images of 1, 8 or 16 bits, and opaque color images whose pixels are all gray: the values.
    - Opaque color images that have only colors of DAVIS' palette: their indices in it.

    A mask whose only values are black and white (0 and 255, of 16 bits 0 and 65535) holds one
    object, which gets the id 1.

    Args:
      image: decoded.
      where: the file, for errors.

    Raises:
      ValueError: the image has other colors, transparent pixels or larger values, looks like a
        picture with smooth edges, or its palette shows the background as an object.
    """
    values, gray = _values(image, where)
    present = np.unique(values)
    if gray and present.max() in (VOID, 0xFFFF) and set(present[:-1].tolist()) <= {0}:
        return (values > 0).astype(np.uint8)
    if present.max() > VOID or present.min() < 0:
        raise ValueError(f"{where} has the value {present.max() or present.min()}; ids are 1 to "
                         f"254: number the objects from 1; {RECIPE}")
    values = values.astype(np.uint8)
    if gray:
        _check_edges(values, where)
    return values


def _values(image: Image.Image, where: str) -> tuple[np.ndarray, bool]:
    """Returns the values of the pixels, and whether 255 is white rather than void."""
    if image.mode == "P":
        values = np.asarray(image)
        colors = _palette_colors(image)
        _check_background(values, colors, where)
        return values, len(colors) == 256 and bool((colors[VOID] == 255).all())
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8), False
    if image.mode == "L" or image.mode.startswith("I"):
        return np.asarray(image), True
    if image.mode not in ("LA", "RGB", "RGBA"):
        raise ValueError(f"{where} has the mode {image.mode}; {RECIPE}")
    pixels = np.asarray(image)
    if image.mode in ("LA", "RGBA"):
        if (pixels[..., -1] != 255).any():
            raise ValueError(f"{where} has the mode {image.mode} with transparent pixels; {RECIPE}")
        pixels = pixels[..., :-1]
    indices = _palette_indices(pixels) if pixels.shape[-1] == 3 else None
    if indices is not None:
        return indices, False
    if (pixels != pixels[..., :1]).any():
        raise ValueError(f"{where} has the mode {image.mode} and colors that are not those of "
                         f"DAVIS' palette; {RECIPE}")
    return pixels[..., 0], True


def _palette_colors(image: Image.Image) -> np.ndarray:
    """Returns the colors of a palette image, uint8 [up to 256, 3]."""
    return np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)


def _palette_indices(pixels: np.ndarray) -> np.ndarray | None:
    """Returns the indices of colors in DAVIS' palette; None if one is not in it."""
    weights = np.array([1 << 16, 1 << 8, 1], np.int32)
    indices = {int(code): index for index, code in
               enumerate(np.array(palette(), np.int32).reshape(256, 3) @ weights)}
    codes, places = np.unique(pixels.astype(np.int32) @ weights, return_inverse=True)
    if not all(int(code) in indices for code in codes):
        return None
    return np.array([indices[int(code)] for code in codes], np.uint8)[places].reshape(
        pixels.shape[:2])


def _check_background(values: np.ndarray, colors: np.ndarray, where: str) -> None:
    """Raises ValueError if the palette shows another index than 0, and not 0, in black."""
    used = [int(i) for i in np.unique(values) if 0 < i < min(VOID, len(colors))]
    black = [i for i in used if not colors[i].any()]
    if black and colors[0].any():
        raise ValueError(f"{where} has a palette in another order: it shows index {black[0]} in "
                         f"black and index 0 in color {tuple(colors[0].tolist())}, but 0 is the "
                         f"background; {RECIPE}")


def _check_edges(values: np.ndarray, where: str) -> None:
    """Raises ValueError for a gray picture of objects in white with smooth edges."""
    counts = np.bincount(values.ravel(), minlength=256)
    ids = np.flatnonzero(counts[1:VOID]) + 1
    if len(ids) != ids.max(initial=0) and counts[VOID] > counts[ids].sum():
        shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
        raise ValueError(f"{where} has the values {shown} at the edges of white (255): it is a "
                         "picture with smooth edges, or compressed; write 1 where it is above 127, "
                         f"0 elsewhere; {RECIPE}")
