"""Some of the frames of a video, at another size."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from vseg_jax.media.camera import Camera
from vseg_jax.media.images import ImageFolder, open_video
from vseg_jax.media.video import Video


@dataclasses.dataclass(frozen=True)
class Part:
    """Which frames of a video are read, and at which size: those of range(start, end, every).

    Attributes:
      start: number of the first frame.
      end: number of the frame after the last one; None for the end of the video.
      every: of so many frames, one is read.
      size: (height, width) in pixels, to which frames are scaled; None for their own size.

    Raises:
      ValueError: there can be no such frame.
    """

    start: int = 0
    end: int | None = None
    every: int = 1
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.start < 0:
            raise ValueError(f"start is {self.start}; frames are numbered from 0")
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end is {self.end} and start {self.start}; end is the number of the "
                             "frame after the last one, so it must be larger than start")
        if self.every < 1:
            raise ValueError(f"every is {self.every}; it must be at least 1, which is each frame")

    def number(self, index: int) -> int:
        """Returns the number, in the video, of a frame that was read."""
        return self.start + index * self.every

    def index(self, number: int) -> int | None:
        """Returns how many frames are read before a frame of the video, None if it is not read."""
        index, rest = divmod(number - self.start, self.every)
        return None if rest or index < 0 or (self.end or number + 1) <= number else index


WHOLE = Part()


class Excerpt:
    """A part of a video as a video of its own.

    Attributes:
      whole: the video.
      part: of it.
      path, fps, names, length, times: as those of the video, for the frames that are read. A frame
        is shown until the next one.

    Raises:
      ValueError: while iterating: the video has no frame in the part, or cannot be read.
    """

    def __init__(self, whole: Video | ImageFolder | Camera, part: Part) -> None:
        self.whole, self.part = whole, part
        self.path, self.fps = whole.path, whole.fps / part.every
        read = slice(part.start, part.end, part.every)
        self.names = whole.names[read]
        self.length = len(range(whole.length)[read])
        self.times: list[float] = []
        if isinstance(whole, ImageFolder) and not self.names:
            raise self._no_frame()

    def _no_frame(self) -> ValueError:
        count = self.whole.length or "fewer"
        return ValueError(f"{self.path} has no frame {self.part.start}, only {count} frames; give "
                          "a smaller start")

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        part = self.part
        times: list[float] = []
        self.times = times
        for number, frame in itertools.islice(
                enumerate(self.whole), part.start, part.end, part.every):
            start, end = self.whole.times[number:number + 2]
            times[-1:] = [start, start + part.every * (end - start)]
            yield frame if part.size is None else scaled(frame, part.size)
        if not times:
            raise self._no_frame()


def scaled(frame: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a frame at another size (height, width)."""
    shrinks = size[0] * size[1] < frame.shape[0] * frame.shape[1]
    return cv2.resize(frame, size[::-1],
                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


Source = Video | ImageFolder | Camera | Excerpt


def is_camera(path: str | os.PathLike) -> bool:
    """Whether a path is the number of a camera, and no file or folder of that name is there."""
    text = os.fspath(path)
    return text.isascii() and text.isdecimal() and not Path(text).exists()


def open_source(path: str | os.PathLike, fps: float | None = None, part: Part = WHOLE) -> Source:
    """Opens a video, or a part of it.

    Args:
      path: a file, a folder of images, or the number of a camera.
      fps: frames per second of a folder of images; None for 25.
      part: which frames to read, and at which size.

    Raises:
      ValueError: there is no such video or frame; see `open_video`, `Camera` and `Excerpt`.
    """
    whole: Video | ImageFolder | Camera
    if is_camera(path):
        if fps is not None:
            raise ValueError(f"fps is {fps}, but a camera has a frame rate of its own; leave it "
                             "out")
        whole = Camera(int(os.fspath(path)))
    else:
        whole = open_video(path, fps)
    return whole if part == WHOLE else Excerpt(whole, part)
