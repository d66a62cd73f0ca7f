"""Videos as folders of images, the layout of DAVIS and YouTube-VOS."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from vseg_jax.media.video import AnimatedImage, Video, size_text

FPS = 25.0  # of images, which do not say it
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class ImageFolder:
    """A folder of images as an iterable of uint8 [H, W, 3] RGB frames, upright.

    The images are JPEG, PNG, BMP, TIFF or WebP files, whatever the case of their endings. Of 16-bit
    RGB the upper 8 bits of each channel are read; gray of more than 8 bits is refused.

    The order is that of the numbers in the names: 2.jpg comes before 10.jpg. Hidden files, and
    files of other types, are ignored.

    Attributes:
      path: the folder.
      fps: frames per second.
      files: the images, in order.
      names: of the images, in order, without suffix.
      length: number of images.
      times: when they are shown, in seconds; image t from times[t] to times[t + 1].

    Raises:
      ValueError: the folder holds no image, or two of one name; while iterating: an image cannot be
        read, is gray with more than 8 bits, or has another size than those before it.
    """

    def __init__(self, path: str | os.PathLike, fps: float = FPS) -> None:
        self.path = Path(path)
        files = [f for f in self.path.iterdir() if is_image(f)]
        self.files = sorted(files, key=in_order)
        if not files:
            raise ValueError(f"the folder {self.path} holds no image; a video is a file, or a "
                             "folder of images (.jpg, .png, ...), one per frame")
        for before, after in itertools.pairwise(self.files):
            if before.stem == after.stem:
                raise ValueError(f"{self.path} holds {before.name} and {after.name}; name a folder "
                                 "that holds each frame once, and no masks")
        if not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps}; a video needs a positive, finite number of frames per "
                             "second")
        self.fps = float(fps)
        self.names = tuple(f.stem for f in self.files)
        self.length = len(self.files)
        self.times = [t / self.fps for t in range(self.length + 1)]

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        shape = None
        for file in self.files:
            rgb = _read(file)
            if shape not in (None, rgb.shape):
                raise ValueError(
                    f"{file} is {size_text(rgb.shape)}, the images before it are "
                    f"{size_text(shape)}; the images of a folder need one size, as frames of one "
                    "video")
            shape = rgb.shape
            yield rgb


def open_video(path: str | os.PathLike, fps: float | None = None) -> Video | ImageFolder:
    """Opens a video file or a folder of images.

    Args:
      path: the file or folder.
      fps: frames per second of a folder of images; None for 25.

    Raises:
      ValueError: there is no such video, it is an address, or `fps` is given for a file; see
        `Video` and `ImageFolder`.
    """
    if "://" in os.fspath(path):
        raise ValueError(f"{path} is an address; download the video, and name the file")
    if Path(path).is_dir():
        return ImageFolder(path, FPS if fps is None else fps)
    video = (AnimatedImage if Path(path).suffix.lower() == ".webp" else Video)(path)
    if fps is not None:
        raise ValueError(f"fps is {fps}, but {path} has a frame rate of its own; leave fps out (it "
                         "is for folders of images)")
    return video


def read_image(file: Path) -> Image.Image:
    """Returns an image, upright.

    Raises:
      ValueError: it cannot be read; names the path.
    """
    try:
        with Image.open(file) as image:
            if image.format == "PNG":   # `load` does not look at the checksums of the pixels
                with Image.open(file) as stored:
                    stored.verify()
            image.load()
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # PIL raises many kinds of errors for damaged PNGs.
        raise ValueError(f"{file} cannot be read ({error}); it is damaged or not an image: copy or "
                         "download it again") from error


def is_image(file: Path) -> bool:
    """Whether a file is a frame of a folder of images: one of their formats that is not hidden."""
    return file.suffix.lower() in ENDINGS and not file.name.startswith(".") and file.is_file()


def in_order(file: Path) -> tuple[list[str | int], str]:
    """Returns a key that sorts numbers in names by value, and jpg and png of one name together."""
    parts = re.split(r"([0-9]+)", file.stem)   # text and numbers in turn, so that they compare
    return [int(part) if i % 2 else part.lower() for i, part in enumerate(parts)], file.name


def _read(file: Path) -> UInt8[np.ndarray, "H W 3"]:
    image = read_image(file)
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{file} is an image of mode {image.mode}; frames have 8 bits per channel "
                         "(RGB or gray)")
    return np.array(image.convert("RGB"))
