"""Mask prompts in files: what is read, and what is refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vseg_jax.inference.prompts.files import read_masks


def test_masks_are_read_from_index_images_only(tmp_path):
    mask = np.zeros((4, 5), np.uint8)
    mask[1:3, 2] = 3
    palette = Image.fromarray(mask)
    palette.putpalette([0, 0, 0] * 3 + [200, 0, 0])
    palette.save(tmp_path / "00000.png")
    Image.fromarray(mask).save(tmp_path / "12.png")
    for name in ("00000.png", "12.png"):
        found, objects = read_masks(tmp_path / name)
        assert (found[0] == mask).all() and not objects
    found, objects = read_masks(tmp_path)
    assert sorted(found) == [0, 12] and not objects
    Image.fromarray(mask > 0).save(tmp_path / "two.png")   # one bit a pixel
    assert read_masks(tmp_path / "two.png")[0][0].max() == 1
    with pytest.raises(ValueError, match=r"holds two\.png; masks in a folder are named by the num"):
        read_masks(tmp_path)
    Image.new("RGB", (5, 4), (9, 8, 7)).save(tmp_path / "colors.png")
    with pytest.raises(ValueError, match=r"the mask .*colors\.png has the mode RGB and colors"):
        read_masks(tmp_path / "colors.png")
    data = (tmp_path / "12.png").read_bytes()
    gamma = b"gAMA\0\0"   # PIL raises another error for a part that is too short
    short = struct.pack(">I", 2) + gamma + struct.pack(">I", zlib.crc32(gamma))
    for damaged in (b"not an image", data[:-30], data[:33] + short + data[33:]):
        (tmp_path / "colors.png").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"colors\.png cannot be read"):
            read_masks(tmp_path / "colors.png")
    with pytest.raises(ValueError, match="there is no mask"):
        read_masks(tmp_path / "gone.png")
    (tmp_path / "two.png").unlink()
    (tmp_path / "colors.png").unlink()
    Image.fromarray(mask).save(tmp_path / "012.png")
    with pytest.raises(ValueError, match=r"012\.png and 12\.png, two masks of frame 12; leave one"):
        read_masks(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no PNG"):
        read_masks(tmp_path / "empty")


def test_masks_in_a_folder_are_named_as_people_name_them(tmp_path):
    def frames(*files, names=()):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for file in files:
            Image.fromarray(np.ones((4, 5), np.uint8)).save(folder / file, format="PNG")
        for other in ("._0.png", ".hidden.png", "notes.txt", "Thumbs.db"):
            (folder / other).write_text("not a mask")
        return sorted(read_masks(folder, names)[0])

    assert frames("0.png", "00005.PNG", "10.Png") == [0, 5, 10]
    assert frames("mask 1_0.png", "mask 1_12.png") == [0, 12]
    assert frames("größe-003.png") == [3]
    images = ("frame_0001", "frame_0002", "frame_0010")
    assert frames("frame_0002.png", names=images) == [1]
    assert frames("mask_10.png", "mask_2.png", names=images) == [1, 2]
    for files, names, wrong in ((("0.png", "a_1.png"), (), "a_1"), (("3.png",), images, "3"),
                                (("1.png",), ("a1", "b1"), "1")):
        with pytest.raises(ValueError, match=rf"holds {wrong}\.png; masks in a folder are named"):
            frames(*files, names=names)


def test_masks_are_read_from_folders_of_objects(tmp_path):
    square = np.zeros((4, 5), np.uint8)
    square[1:3, 2] = 255
    for name, mask in (("001/00000", square), ("7/0", np.roll(square, 1, 1)), ("7/12", square)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    found, objects = read_masks(tmp_path)
    assert objects == {0: [1, 7], 12: [7]} and sorted(found) == [0, 12]
    assert (found[0] == (square > 0) + 7 * np.roll(square > 0, 1, 1)).all()
    assert (found[12] == 7 * (square > 0)).all()
    for name, mask, said in (
        ("7/00000", square, r"7 holds 0\.png and 00000\.png|7 holds 00000\.png and 0\.png"),
        ("001/12", square, "masks of objects 1 and 7 in .* overlap in frame 12"),
        ("001/12", square[:3], "frame 12 in .* have different sizes: 5 x 4, 5 x 3"),
        ("001/12", square // 255 + np.roll(square // 127, 1), "12 in .*001 has the values 1, 2"),
        ("dog/0", square, "holds the folder dog; a folder without PNGs has one folder for each"),
        ("1/0", square, "holds the folder 1; "),
        ("000/0", square, "holds the folder 000; .* named by its id, 1 to 254"),
        ("255/0", square, "holds the folder 255; "),
    ):
        file = tmp_path / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(mask).save(file)
        with pytest.raises(ValueError, match=said):
            read_masks(tmp_path)
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
