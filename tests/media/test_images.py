"""Folders of images as videos: order, formats, and what is refused."""

import cv2
import numpy as np
import pytest
from PIL import Image

from vseg_jax.media.images import ImageFolder, open_video
from vseg_jax.media.video import Video


def save(path, value, size=(4, 6), mode="RGB"):
    Image.fromarray(np.full((*size, 3), value, np.uint8)).convert(mode).save(path)


def test_images_come_in_the_order_of_their_numbers(tmp_path):
    names = ["10.PNG", "2.png", "1.jpg", "002.jpeg", "frame_1.TIF", "Frame_12.JPG", "frame_3.webp"]
    for value, name in enumerate(names):
        save(tmp_path / name, 20 * value)
    for other in (".hidden.png", "notes.txt", "._2.png", "Thumbs.db"):
        (tmp_path / other).write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    video = open_video(tmp_path)
    assert video.names == ("1", "002", "2", "10", "frame_1", "frame_3", "Frame_12")
    assert (video.length, video.fps) == (7, 25.0)
    assert [int(f.mean().round()) // 20 for f in video] == [2, 3, 1, 0, 4, 6, 5]
    assert open_video(str(tmp_path), 24.0).fps == 24.0
    assert len(list(video)) == 7, "it can be read again"


def test_all_usual_images_become_rgb_upright(tmp_path):
    for number, mode in enumerate(("RGB", "L", "P", "RGBA", "LA", "1")):
        save(tmp_path / f"{number}.png", 255, mode=mode)
    for frame in ImageFolder(tmp_path):
        assert frame.dtype == np.uint8 and frame.shape == (4, 6, 3) and (frame == 255).all()
    turned = tmp_path / "turned"
    turned.mkdir()
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6   # the camera was held upright: the left side of the pixels is above
    Image.fromarray(pixels).save(turned / "a.jpg", exif=exif, quality=95)
    [frame] = ImageFolder(turned)
    assert frame.shape == (16, 8, 3) and frame[:6].min() > 200 and frame[10:].max() < 50


def test_messages_name_the_file_that_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"the folder .* holds no image; a video is a file, or"):
        open_video(tmp_path)
    save(tmp_path / "1.jpg", 0)
    save(tmp_path / "2.png", 0, size=(4, 7))
    with pytest.raises(ValueError, match=r"2\.png is 7 x 4, the images before it are 6 x 4"):
        list(open_video(tmp_path))
    save(tmp_path / "1.png", 0)
    with pytest.raises(ValueError, match=r"holds 1\.jpg and 1\.png; name a folder that holds each"):
        open_video(tmp_path)
    (tmp_path / "1.png").unlink()
    data = (tmp_path / "1.jpg").read_bytes()
    for damaged in (data[:-20], b"not an image", b""):
        (tmp_path / "1.jpg").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"1\.jpg cannot be read"):
            list(open_video(tmp_path))
    Image.fromarray(np.zeros((4, 6), np.uint16)).save(tmp_path / "1.png")
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(ValueError, match=r"1\.png is an image of mode I;16; frames have 8 bits"):
        list(open_video(tmp_path))
    for fps in (0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"fps is {fps}; a video needs a positive, finite"):
            open_video(tmp_path, fps)
    with pytest.raises(ValueError, match="rtsp://camera/1 is an address; download the video"):
        open_video("rtsp://camera/1")
    with pytest.raises(ValueError, match=r"no video file .*gone, nor a folder of images"):
        open_video(tmp_path / "gone")


def test_of_16_bit_colors_the_upper_8_bits_are_read(tmp_path):
    rgb = np.array([[[0x12FF, 0x3400, 0xFE80]]], np.uint16)
    assert cv2.imwrite(str(tmp_path / "0.png"), rgb[..., ::-1])
    assert next(iter(ImageFolder(tmp_path))).tolist() == [[[0x12, 0x34, 0xFE]]]


def test_a_frame_rate_is_for_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(Video, "__init__", lambda self, path: None)
    assert isinstance(open_video(tmp_path / "a.mp4"), Video)
    with pytest.raises(ValueError, match=r"fps is 10.0, but .*a\.mp4 has a frame rate of its own"):
        open_video(tmp_path / "a.mp4", 10.0)
