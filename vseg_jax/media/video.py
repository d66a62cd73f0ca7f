"""Video files read and written frame by frame; at most a few frames are in memory.

Needs PyAV (`pip install 'vseg_jax[video]'`), which brings its own codecs.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vseg_jax.atomic import atomic_file

_QUALITY = "18"  # x264's constant rate factor; visually lossless


class Video:
    """A video file as an iterable of uint8 [H, W, 3] RGB frames, upright, in display order.

    A truncated file yields the frames that can be decoded, then warns with the number of frames
    that its header promises. A file in which no frame can be decoded is an error.

    Attributes:
      path: the file.
      fps: frames per second; the average if the rate varies.
      length: number of frames according to the header; 0 if it does not say.

    Raises:
      ValueError: the file is missing, empty or not a video, or PyAV is not installed; while
        iterating: no frame can be decoded, or the frame size changes.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"there is no video file {self.path}, nor a folder of images")
        if self.path.stat().st_size == 0:
            raise ValueError(f"the video {self.path} is empty (0 bytes); copy or download it again")
        av = require_av()
        with self._open(av) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or 25
            self.fps = float(rate)
            self.length = int(stream.frames)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        av = require_av()
        count, shape, fault = 0, None, None
        with self._open(av) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    rgb = frame.to_ndarray(format="rgb24")
                    # Players apply the same rotation (counter-clockwise).
                    rgb = np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))
                    if shape not in (None, rgb.shape):
                        raise ValueError(
                            f"frame {count} of {self.path} is {size_text(rgb.shape)}, those before "
                            f"it are {size_text(shape)}; cut the video where its size changes"
                        )
                    shape = rgb.shape
                    yield rgb
                    count += 1
            except av.error.FFmpegError as error:
                fault = error
        if count == 0:
            raise ValueError(f"no frame of the video {self.path} can be decoded"
                             f"{_reason(fault)}; it is damaged or truncated: copy or download it "
                             "again")
        if fault or count < self.length:
            warnings.warn(
                f"only {count} of {self.length or 'the'} frames of {self.path} could be decoded"
                f"{_reason(fault)}; it is probably truncated (cut off), and the predictions cover "
                "these frames only", stacklevel=2)

    def _open(self, av: ModuleType) -> Any:
        try:
            container = av.open(os.fspath(self.path))
        except av.error.FFmpegError as error:
            raise ValueError(f"{self.path} cannot be opened as a video{_reason(error)}; it is not "
                             "a video or is truncated: check that a player shows it") from error
        if not container.streams.video:
            container.close()
            raise ValueError(f"{self.path} holds no video; it has only audio or is truncated")
        return container


class VideoWriter:
    """A context manager that writes an H.264 video atomically (yuv420p, which every player shows).

    Odd sizes are extended by a copy of the last row or column, because the format stores color at
    half the resolution.

    Args:
      path: ends in .mp4; replaced when the block ends without an error.
      fps: frames per second, any positive number.
    """

    def __init__(self, path: str | os.PathLike, fps: float) -> None:
        if not fps > 0:
            raise ValueError(f"fps is {fps}; a video needs a positive number of frames per second")
        self._path = Path(path)
        self._rate = Fraction(fps).limit_denominator(10_000)
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        av = require_av()
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(atomic_file(self._path))
            # With the index at the front, browsers start playing before they have the whole file.
            self._container = stack.enter_context(
                av.open(os.fspath(temporary), "w", options={"movflags": "faststart"}))
            self._open = stack.pop_all()
        return self

    def add(self, rgb: UInt8[np.ndarray, "H W 3"]) -> None:
        """Appends a frame; all frames must have the same size."""
        av = require_av()
        height, width = rgb.shape[:2]
        even = (height + height % 2, width + width % 2)
        if self._stream is None:
            self._stream = self._container.add_stream(
                "libx264", rate=self._rate, options={"crf": _QUALITY, "preset": "veryfast"})
            self._stream.height, self._stream.width = even
            self._stream.pix_fmt = "yuv420p"
        if (self._stream.height, self._stream.width) != even:
            raise ValueError(f"a frame is {size_text(rgb.shape)}, but the video is "
                             f"{self._stream.width} x {self._stream.height}")
        padded = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is not None:
            self._open.__exit__(kind, error, trace)
            return
        with self._open:   # closes the container, then moves the file into place
            if self._stream is None:
                raise ValueError(f"no frame was added to the video {self._path}")
            self._container.mux(self._stream.encode())


def require_av() -> ModuleType:
    """Returns the module of PyAV.

    Raises:
      ValueError: it is not installed; the message says how to install it.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError("video files need PyAV: pip install 'vseg_jax[video]'; frames given as "
                         "arrays work without it") from error
    return av


def _reason(error: Any) -> str:
    return f" ({error.strerror})" if error else ""


def size_text(shape: Sequence[int]) -> str:
    """Returns "width x height" of an image's shape, for messages."""
    return f"{shape[1]} x {shape[0]}"
