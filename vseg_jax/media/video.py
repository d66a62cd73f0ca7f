"""Video files read and written frame by frame; at most a few frames are in memory.

Needs PyAV (`pip install 'vseg_jax[video]'`), which brings its own codecs.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vseg_jax.atomic import atomic_file
from vseg_jax.media.containers import (
    Decodable,
    open_container,
    picture_stream,
    reason,
    require_av,
)

# Codec, pixels and options. x264's constant rate factor 18 is visually lossless.
_H264 = "libx264", "yuv420p", {"crf": "18", "preset": "veryfast", "bf": "0"}
_PRORES = "prores_ks", "yuva444p10le", {"profile": "4444", "alpha_bits": "8"}
_BT709 = 1  # in FFmpeg's lists of color spaces, primaries and transfer characteristics
# Of the files of a folder, those that are videos; a file that is named may have any ending.
ENDINGS = (".3gp", ".apng", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4",
           ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv", ".y4m")
_TICKS = 90_000  # of a written video's time stamps, per second
_TICK = Fraction(1, _TICKS)
SOUND_RATE = 48_000  # of a written video's sound, Hz
_FASTEST = 120  # frames per second that a header without a number of frames is believed


class Video:
    """A video file as an iterable of uint8 [H, W, 3] RGB frames, upright, in display order.

    Frames are turned and mirrored as players show them. One frame is read ahead, so that it is
    known how long the frame before it is shown. A truncated or damaged file yields the frames that
    can be decoded, then warns with the number of frames that its header promises. A file in which
    no frame can be decoded is an error.

    Attributes:
      path: the file.
      fps: frames per second according to the header; the average if the rate varies.
      length: number of frames according to the header; 0 if it does not say.
      names: of images, in a folder of them; a video file has none.
      times: when the frames that the latest iteration has read are shown, in seconds from the
        beginning of the file; frame t from times[t] to times[t + 1].
      flaw: what is missing, after an iteration to the end that has warned; else "".

    Raises:
      ValueError: the file is missing, empty or not a video, or PyAV is not installed; while
        iterating: no frame can be decoded, or the frame size changes.
    """

    names: tuple[str, ...] = ()

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.times: list[float] = []
        self.flaw = ""
        if not self.path.is_file():
            raise ValueError(f"there is no video file {self.path}, nor a folder of images")
        if self.path.stat().st_size == 0:
            raise ValueError(f"the video {self.path} is empty (0 bytes); copy or download it again")
        self._read_header()

    def _read_header(self) -> None:
        with open_container(self.path) as container:
            stream = picture_stream(container)
            rate = stream.average_rate or stream.guessed_rate or 25
            self.length = int(stream.frames)
            if not self.length and rate > _FASTEST:   # the unit of the time stamps, not a rate
                rate = stream.guessed_rate or 25
            self.fps = float(min(rate, _FASTEST) if not self.length else rate)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        times: list[float] = []
        self.times = times
        before = None
        try:
            for rgb, start, end in self._decoded():
                times[-1:] = [start, end]   # the frame before is shown until now
                if before is not None:
                    yield before
                before = rgb
        except ValueError:   # about the frame after `before`
            if before is not None:
                yield before
            raise
        assert before is not None
        yield before

    def _decoded(self) -> Iterator[tuple[np.ndarray, float, float]]:
        """Yields the frames, and from when to when they are shown."""
        av = require_av()
        count, shape = 0, None
        clock = _Clock(1 / self.fps)
        with open_container(self.path) as container:
            stream = picture_stream(container)
            stream.thread_type = "AUTO"
            origin = (container.start_time or 0) / av.time_base
            decodable = Decodable(container, stream)
            for frame in decodable:
                rgb = _upright(frame)
                if shape not in (None, rgb.shape):
                    raise ValueError(
                        f"frame {count} of {self.path} is {size_text(rgb.shape)}, those before it "
                        f"are {size_text(shape)}; cut the video where its size changes")
                shape = rgb.shape
                yield rgb, *clock.span(frame, origin)
                count += 1
        why = reason(decodable.fault)
        if count == 0:
            raise ValueError(f"no frame of the video {self.path} can be decoded{why}; it is "
                             "damaged or truncated: copy or download it again")
        if decodable.fault or count + decodable.hidden < self.length:
            lost = ("some in between are damaged and left out, and the numbers of the frames do "
                    "not count them" if decodable.resumed else
                    "it is probably truncated (cut off), and the predictions cover these frames "
                    "only")
            self.flaw = (f"only {count} of {self.length or 'the'} frames could be decoded{why}; "
                         f"{lost}")
            warnings.warn(f"{self.path}: {self.flaw}", stacklevel=3)


class AnimatedImage(Video):
    """An animated WebP, which FFmpeg does not read, as a `Video`."""

    def _read_header(self) -> None:
        with self._image() as image:
            self.length = getattr(image, "n_frames", 1)
            image.load()
            self.fps = 1 / self._seconds(image)

    def _decoded(self) -> Iterator[tuple[np.ndarray, float, float]]:
        start = 0.0
        with self._image() as image:
            for number in range(self.length):
                try:
                    image.seek(number)
                    rgb = np.array(image.convert("RGB"))
                except (OSError, EOFError, SyntaxError, ValueError) as error:
                    raise ValueError(f"frame {number} of {self.path} cannot be decoded ({error}); "
                                     "copy or download it again") from error
                end = start + self._seconds(image)
                yield rgb, start, end
                start = end

    def _image(self) -> Image.Image:
        try:
            return Image.open(self.path)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{self.path} cannot be opened as an image ({error})") from error

    @staticmethod
    def _seconds(image: Image.Image) -> float:
        """Returns how long a frame is shown; browsers show those without a time for 0.1 s."""
        return (image.info.get("duration") or 100) / 1000


class _Clock:
    """The times of the frames of a stream, which increase even where its time stamps do not.

    Args:
      usual: how long a frame is shown if nothing says it, seconds.
    """

    def __init__(self, usual: float) -> None:
        self._usual = usual
        self._start, self._end = -math.inf, 0.0

    def span(self, frame: Any, origin: float) -> tuple[float, float]:
        """Returns from when to when a frame is shown, in seconds after `origin`."""
        start = self._end if frame.time is None else max(0.0, frame.time - origin)
        if start <= self._start:
            start = self._end
        if math.isfinite(self._start):
            self._usual = start - self._start
        shown = float(frame.duration * frame.time_base) if frame.duration else self._usual
        self._start, self._end = start, start + shown
        return self._start, self._end


def _upright(frame: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a decoded frame in RGB, turned and mirrored as its display matrix says."""
    rgb = frame.to_ndarray(format="rgb24")
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            # x' = a x + c y, y' = b x + d y (16.16 fixed point), here with right angles only
            a, b, _, c, d = np.frombuffer(bytes(data), "<i4")[:5].tolist()
            down, right = (d < 0, a < 0)
            if abs(a) + abs(d) < abs(b) + abs(c):
                rgb, down, right = rgb.transpose(1, 0, 2), b < 0, c < 0
            rgb = rgb[::-1 if down else 1, ::-1 if right else 1]
    return np.ascontiguousarray(rgb)


class VideoWriter:
    """A context manager that writes a video atomically, as every browser and player shows it.

    The picture is H.264 in yuv420p with the colors of HD (BT.709), the sound AAC. Odd sizes are
    extended by a copy of the last row or column, because the format stores color at half the
    resolution. A video with transparency, for editors, is ProRes 4444.

    Args:
      path: ends in .mp4, with transparency in .mov; replaced when the block ends without an error.
      fps: frames per second, any positive number.
      sound: float32 [2, n] in [-1, 1] at `SOUND_RATE`, in pieces, from the beginning of the video;
        it is read as far as there are frames. None for a silent video.
      transparent: whether frames are RGBA, not multiplied by their opacity.
    """

    def __init__(
        self, path: str | os.PathLike, fps: float, sound: Iterator[np.ndarray] | None = None,
        transparent: bool = False,
    ) -> None:
        if not fps > 0:
            raise ValueError(f"fps is {fps}; a video needs a positive number of frames per second")
        self._path = Path(path)
        self._fps = fps
        self._transparent = transparent
        self._count, self._end = 0, -1   # frames, and the time stamp that is the next to be free
        self._shown: dict[int, int] = {}   # for how long frames in the encoder are shown
        self._sound, self._encoded = sound, 0
        self._container: Any = None
        self._stream: Any = None
        self._track: Any = None

    def __enter__(self) -> VideoWriter:
        av = require_av()
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(atomic_file(self._path))
            # With the index at the front, browsers start playing before they have the whole file.
            self._container = stack.enter_context(
                av.open(os.fspath(temporary), "w", options={"movflags": "faststart"}))
            self._open = stack.pop_all()
        return self

    def add(
        self, rgb: UInt8[np.ndarray, "H W C"], start: float | None = None, end: float | None = None
    ) -> None:
        """Appends a frame; all frames must have the same size.

        Args:
          rgb: the frame, RGB or RGBA.
          start: when it is shown, in seconds; after the frame before. By default as `fps` says.
          end: until when, if it is the last frame.
        """
        av = require_av()
        height, width = rgb.shape[:2]
        even = (height + height % 2, width + width % 2)
        if self._stream is None:
            self._add_streams(*even)
        if (self._stream.height, self._stream.width) != even:
            raise ValueError(f"a frame is {size_text(rgb.shape)}, but the video is "
                             f"{self._stream.width} x {self._stream.height}")
        if even != (height, width):
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        given = "rgba" if self._transparent else "rgb24"
        frame = av.VideoFrame.from_ndarray(rgb, format=given).reformat(
            format=self._stream.pix_fmt, dst_colorspace=_BT709)
        start = self._count / self._fps if start is None else start
        end = start + 1 / self._fps if end is None else end
        frame.pts, frame.time_base = max(round(start * _TICKS), self._end + 1), _TICK
        self._shown[frame.pts] = max(1, round(end * _TICKS) - frame.pts)
        self._count, self._end = self._count + 1, frame.pts
        self._encode(frame)
        self._add_sound(end)

    def _encode(self, frame: Any) -> None:
        """Encodes a picture, None for those that the encoder still holds."""
        for packet in self._stream.encode(frame):
            packet.duration = self._shown.pop(packet.pts, 1)   # counts for the last one
            self._container.mux(packet)

    def _add_streams(self, height: int, width: int) -> None:
        rate = Fraction(min(self._fps, _FASTEST)).limit_denominator(10_000)
        # Frames stay in order ("bf"): otherwise the file cannot say how long the last one is shown.
        codec, pixels, options = _H264 if not self._transparent else _PRORES
        self._stream = self._container.add_stream(codec, rate=rate, options=dict(options))
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = pixels
        coded = self._stream.codec_context
        coded.time_base = _TICK
        coded.colorspace = coded.color_primaries = coded.color_trc = _BT709
        coded.color_range = 1   # 16 to 235, as for all video
        if self._sound is not None:
            self._track = self._container.add_stream("aac", rate=SOUND_RATE, layout="stereo")

    def _add_sound(self, end: float) -> None:
        """Encodes the sound up to a time in seconds."""
        av = require_av()
        while self._sound is not None and self._encoded < end * SOUND_RATE:
            samples = next(self._sound, None)
            if samples is None:
                self._sound = None
                return
            if samples.shape[1]:
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(samples, np.float32), format="fltp", layout="stereo")
                frame.sample_rate, frame.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
                frame.pts = self._encoded
                self._encoded += samples.shape[1]
                self._container.mux(self._track.encode(frame))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is not None:
            self._open.__exit__(kind, error, trace)
            return
        with self._open:   # closes the container, then moves the file into place
            if self._stream is None:
                raise ValueError(f"no frame was added to the video {self._path}")
            self._encode(None)
            if self._track is not None:
                self._container.mux(self._track.encode())


def size_text(shape: Sequence[int]) -> str:
    """Returns "width x height" of an image's shape, for messages."""
    return f"{shape[1]} x {shape[0]}"
