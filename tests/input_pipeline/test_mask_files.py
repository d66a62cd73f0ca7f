"""Masks as programs save them: bits, colors and palettes."""

import numpy as np
import pytest
from archives import box
from PIL import Image

from vseg_jax.index_masks import VOID, palette
from vseg_jax.input_pipeline.builders import files
from vseg_jax.input_pipeline.mask_files import index_of

INDEX = box((8, 8), 0, 0, 4) + np.uint8(254) * box((8, 8), 4, 4, 4)   # objects 1 and 254


def saved(path, pixels, mode=None, colors=None):
    image = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    if colors is not None:
        image.putpalette(colors)
    image.save(path)
    return files.read_mask(path)


def test_the_forms_in_which_an_index_mask_is_saved(tmp_path):
    path = tmp_path / "mask.png"
    reverse = palette()[:3] + palette()[:2:-1]   # the colors of the ids in another order
    forms = {
        "gray": (INDEX,), "16 bits": (INDEX.astype(np.uint16),), "gray as RGB": (INDEX, "RGB"),
        "gray as RGBA": (INDEX, "RGBA"), "gray with alpha": (INDEX, "LA"),
        "palette": (INDEX, None, palette()), "another palette": (INDEX, None, reverse),
        "DAVIS' colors": (np.array(palette(), np.uint8).reshape(256, 3)[INDEX],),
        "DAVIS' colors, opaque": (np.dstack([
            np.array(palette(), np.uint8).reshape(256, 3)[INDEX], np.full_like(INDEX, 255)]),),
    }
    for name, form in forms.items():
        mask = saved(path, *form)
        assert mask.dtype == np.uint8 and (mask == INDEX).all(), name
    Image.fromarray(INDEX.astype(np.int32)).save(tmp_path / "mask.tif")
    assert (files.read_mask(tmp_path / "mask.tif") == INDEX).all()


def test_black_and_white_is_one_object(tmp_path):
    shape, path = box((8, 8), 2, 2, 4), tmp_path / "mask.png"
    white = np.where(shape, 255, 0).astype(np.uint8)
    gray_palette = [level for level in range(256) for _ in range(3)]
    for pixels, mode, colors in (
        (shape, None, None), (white, None, None), (white, "RGBA", None), (white, "1", None),
        (white.astype(np.uint16) * 257, None, None), (white, None, gray_palette),
    ):
        assert (saved(path, pixels, mode, colors) == shape).all()
    assert (saved(path, white, None, palette()) == white).all(), "void in DAVIS' palette"
    assert not saved(path, np.zeros_like(white)).any()


def test_what_is_no_index_mask_is_named_with_a_remedy(tmp_path):
    path = tmp_path / "mask.png"
    shape = box((8, 8), 2, 2, 4)
    soft = np.where(shape, 255, 0).astype(np.uint8)
    soft[2, 2:6] = 40, 90, 130, 200
    clear = np.dstack([INDEX] * 3 + [np.where(shape, 255, 0).astype(np.uint8)])
    picture = np.dstack([INDEX, INDEX, 255 - INDEX])
    for pixels, said in (
        (soft, r"values 40, 90, 130, 200 at the edges of white .255.: it is a picture with smooth"),
        (np.dstack([soft] * 3), "picture with smooth edges"),
        (INDEX * np.uint16(200), "the value 50800; ids are 1 to 254: number"),
        (clear, "the mode RGBA with transparent pixels"),
        (picture, "the mode RGB and colors that are not those of DAVIS' palette"),
    ):
        with pytest.raises(ValueError, match=rf"mask\.png has .*{said}.*; a mask is an index PNG"):
            saved(path, pixels)
    with pytest.raises(ValueError, match="palette in another order: it shows index 1 in black and "
                                         r"index 0 in color \(255, 255, 255\)"):
        saved(path, (~shape).astype(np.uint8), None, [255, 255, 255, 0, 0, 0])
    with pytest.raises(ValueError, match="has the mode CMYK"):
        index_of(Image.new("CMYK", (2, 2)), "x.tif")


def test_ids_with_void_are_no_smooth_edges(tmp_path):
    mask = np.where(box((8, 8), 0, 0, 6), 7, 0).astype(np.uint8)
    mask[0] = VOID
    assert (saved(tmp_path / "mask.png", mask) == mask).all()
