"""The smallest files of the faults that damaged files have shown (test_readers.py)."""

import json
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from vseg_jax.input_pipeline.builders.coco import mask_of
from vseg_jax.media.images import read_image
from vseg_jax.tools.own_data import cvat, json_files
from vseg_jax.weights.convert import read as read_weights


def test_pixels_of_a_png_that_do_not_fit_their_checksum(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    data = path.read_bytes()
    start = data.index(b"IDAT") + 4
    size = int.from_bytes(data[start - 8:start - 4])
    other = zlib.compress(bytes(8) + b"\1" + bytes(63))[:size].ljust(size, b"\0")
    path.write_bytes(data[:start] + other + data[start + size:])
    with pytest.raises(ValueError, match=r"mask\.png cannot be read .*damaged"):
        read_image(path)


def test_an_archive_of_weights_without_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "weights.npz", "w"):
        pass
    with pytest.raises(ValueError, match=r"weights\.npz holds no arrays"):
        read_weights(tmp_path / "weights.npz")


@pytest.mark.parametrize("number", ["1e400", "NaN"])
def test_sizes_that_are_not_finite(number, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(f'{{"imageHeight": {number}, "imageWidth": 8, "shapes": []}}')
    with pytest.raises(ValueError, match="imageHeight and imageWidth should be numbers"):
        json_files.read(path, ())
    path = tmp_path / "a.xml"
    path.write_text(f'<annotations><image name="a.jpg" width="8" height="{number}">'
                    '<polygon label="dog" points="1,1;2,2;1,2"/></image></annotations>')
    with pytest.raises(ValueError, match="its height should be a number"):
        cvat.read(path, ())


def test_the_place_of_a_mask_that_is_not_finite(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"imageHeight": 8, "imageWidth": 8, "shapes": [
        {"label": "dog", "shape_type": "mask", "points": [[float("inf"), 0]], "mask": ""}]}))
    with pytest.raises(ValueError, match="the mask cannot be read"):
        json_files.read(path, ())


def test_xml_in_an_encoding_that_does_not_exist(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text('<?xml version="1.0" encoding="utf-88"?><annotations/>')
    with pytest.raises(ValueError, match=r"is not XML .*utf-88"):
        cvat.read(path, ())


@pytest.mark.parametrize("outline", [[], [1, 1, 4, float("nan"), 1, 4], [1, 1, 1e12, 1, 1, 4]],
                         ids=["empty", "NaN", "far"])
def test_coordinates_of_outlines_that_cannot_be_drawn(outline):
    with pytest.raises(ValueError, match="annotation 3: an outline has no points, or coordinates"):
        mask_of([outline], (8, 8), "annotation 3")
