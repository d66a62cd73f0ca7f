"""Video files, frame by frame: nothing here holds more than a few frames.

Needs PyAV (`pip install 'vseg_jax[video]'`), which brings its own codecs.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import UInt8

_QUALITY = "18"  # x264's constant rate factor: the eye sees no loss


class Video:
    """A video file as an iterable of uint8 [H, W, 3] RGB frames, upright, in order of display.

    A file that is cut off gives the frames that can be decoded and then a warning that says how
    many were promised; a file of which nothing can be decoded is an error.

    Attributes:
      path: the file.
      fps: frames a second, on average where they vary.
      length: frames that the file promises; 0 where it does not say.

    Raises:
      ValueError: the file is missing, empty, no video, or PyAV is not installed; while iterating:
        nothing can be decoded, or the frames change size.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"there is no video file {self.path}")
        if self.path.stat().st_size == 0:
            raise ValueError(f"the video {self.path} is empty (0 bytes); copy or download it again")
        av = _av()
        with self._open(av) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or 25
            self.fps = float(rate)
            self.length = int(stream.frames)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        av = _av()
        count, shape, fault = 0, None, None
        with self._open(av) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    rgb = frame.to_ndarray(format="rgb24")
                    # The turn that the player applies, counter-clockwise.
                    rgb = np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))
                    if shape not in (None, rgb.shape):
                        raise ValueError(
                            f"frame {count} of {self.path} is {_size(rgb.shape)}, those before it "
                            f"are {_size(shape)}; cut the video where its size changes"
                        )
                    shape = rgb.shape
                    yield rgb
                    count += 1
            except av.error.FFmpegError as error:
                fault = error
        if count == 0:
            raise ValueError(f"no frame of the video {self.path} can be decoded"
                             f"{_reason(fault)}; it is damaged or cut off: copy or download it "
                             "again")
        if fault or count < self.length:
            warnings.warn(
                f"only {count} of {self.length or 'the'} frames of {self.path} could be decoded"
                f"{_reason(fault)}; it is probably cut off, and the answer covers these frames "
                "alone", stacklevel=2)

    def _open(self, av: ModuleType):
        try:
            container = av.open(os.fspath(self.path))
        except av.error.FFmpegError as error:
            raise ValueError(f"{self.path} cannot be opened as a video{_reason(error)}; it is no "
                             "video or is cut off: check that a player shows it") from error
        if not container.streams.video:
            container.close()
            raise ValueError(f"{self.path} holds no video; it has only sound or is cut off")
        return container


class VideoWriter:
    """Writes H.264 (yuv420p, which every player shows) as a context; whole or not at all.

    Odd sizes get one more row or column, a copy of the last: the format halves color.

    Args:
      path: ends in .mp4; replaced when the block ends without an error.
      fps: frames a second, any positive number.
    """

    def __init__(self, path: str | os.PathLike, fps: float):
        if not fps > 0:
            raise ValueError(f"fps is {fps}; a video needs a positive number of frames a second")
        self._path = Path(path)
        self._rate = Fraction(fps).limit_denominator(10_000)
        self._container = self._stream = None

    def __enter__(self) -> VideoWriter:
        av = _av()
        handle, self._temporary = tempfile.mkstemp(suffix=".mp4", dir=self._path.parent)
        os.close(handle)
        os.chmod(self._temporary, 0o644)
        # The index goes to the front, so that browsers can begin before they have all.
        self._container = av.open(self._temporary, "w", options={"movflags": "faststart"})
        return self

    def add(self, rgb: UInt8[np.ndarray, "H W 3"]) -> None:
        """Appends a frame; all must have one size."""
        av = _av()
        height, width = rgb.shape[:2]
        even = (height + height % 2, width + width % 2)
        if self._stream is None:
            self._stream = self._container.add_stream(
                "libx264", rate=self._rate, options={"crf": _QUALITY, "preset": "veryfast"})
            self._stream.height, self._stream.width = even
            self._stream.pix_fmt = "yuv420p"
        if (self._stream.height, self._stream.width) != even:
            raise ValueError(f"a frame is {_size(rgb.shape)}, the video "
                             f"{self._stream.width} x {self._stream.height}")
        padded = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                if self._stream is None:
                    raise ValueError(f"no frame was given to the video {self._path}")
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None:
                os.replace(self._temporary, self._path)
        finally:
            Path(self._temporary).unlink(missing_ok=True)


def _av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise ValueError("video files need PyAV: pip install 'vseg_jax[video]'; frames as arrays "
                         "work without it") from error
    return av


def _reason(error: Exception | None) -> str:
    return f" ({error.strerror})" if error else ""


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
