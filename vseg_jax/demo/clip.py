"""The part of a video that a user works on, in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vseg_jax.demo.limits import Limits
from vseg_jax.input_pipeline.codecs import decode_image, encode_image
from vseg_jax.media.audio import audio_of_video
from vseg_jax.media.excerpt import scaled
from vseg_jax.media.images import open_video
from vseg_jax.media.video import Video, size_text

_QUALITY = 95   # of the JPEGs in memory


class Clip:
    """Consecutive frames of a video, kept as JPEG, about 0.1 MB each.

    Attributes:
      path: the file that they are from.
      first: the number of the first of them in the file.
      times: when they are shown, in seconds from the beginning of the file; frame t of the clip
        from times[t] to times[t + 1].
      original: (height, width) of the frames in the file.
      size: (height, width) here.
      audio: the samples of each frame (see `Segmenter.segment`); None if they were not asked for,
        or the file has none.
      more: whether the file has frames after these.
      flaw: what is missing of a damaged file that was read to its end, in words; else "".
    """

    def __init__(self, path: str | os.PathLike, first: int = 0) -> None:
        self.path = Path(path)
        self.first = first
        self.times: list[float] = [0.0]
        self.original = self.size = (0, 0)
        self.audio: list[np.ndarray] | None = None
        self.more = False
        self.flaw = ""
        self._frames: list[bytes] = []

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> UInt8[np.ndarray, "H W 3"]:
        return decode_image(self._frames[number], f"frame {number}")

    def add(self, frame: UInt8[np.ndarray, "H W 3"], start: float, end: float) -> None:
        """Appends a frame that is shown from `start` to `end`, in seconds."""
        if not self._frames:
            self.size = frame.shape[:2]
        self._frames.append(encode_image(frame, _QUALITY))
        self.times[-1:] = [start, end]

    @property
    def fps(self) -> float:
        """The average number of frames per second."""
        return len(self) / (self.times[-1] - self.times[0])

    @property
    def summary(self) -> str:
        """What is here, and what of the file is not, in words for the user."""
        seconds = self.times[-1] - self.times[0]
        text = f"{len(self)} frames, {seconds:.1f} s, {size_text(self.size)}"
        if self.size != self.original:
            text += f" (scaled down from {size_text(self.original)})"
        if self.more:
            text += (f". The video is longer: the part from {self.times[0]:.1f} s to "
                     f"{self.times[-1]:.1f} s is here. Open it again with another beginning for "
                     "another part; `vseg predict` takes whole videos")
        return text + "." + (f" Warning: {self.flaw}." if self.flaw else "")


def read_clip(
    path: str | os.PathLike, limits: Limits | None = None, begin: float = 0.0, *,
    audio: bool = False, progress: Callable[[int], None] | None = None,
) -> Clip:
    """Reads a video into memory, within limits.

    Args:
      path: of the file.
      limits: by default those of `Limits`.
      begin: where to begin, in seconds.
      audio: whether to read the samples for a model that uses audio.
      progress: called with the number of frames that have been read.

    Raises:
      ValueError: the file is too large or not a video, or ends before `begin`.
    """
    limits = limits or Limits()
    megabytes = os.path.getsize(path) / 1e6 if Path(path).is_file() else 0.0
    if megabytes > limits.megabytes:
        raise ValueError(f"the video has {megabytes:,.0f} MB; this page takes up to "
                         f"{limits.megabytes:,} MB. Cut it or make it smaller; `vseg predict` has "
                         "no such limit")
    video = open_video(path)
    clip = Clip(path)
    samples = audio_of_video(video) if audio and isinstance(video, Video) else None
    for number, frame in enumerate(video):
        start, end = video.times[number:number + 2]
        sound = next(samples) if samples else None
        if end <= begin:
            continue
        if len(clip) == limits.frames:
            clip.more = True
            break
        if not len(clip):
            clip.first, clip.original = number, frame.shape[:2]
            clip.audio = [] if samples else None
        clip.add(_fitted(frame, limits.side), start, end)
        if clip.audio is not None and sound is not None:
            clip.audio.append(sound)
        if progress:
            progress(len(clip))
    if isinstance(video, Video):
        clip.flaw = video.flaw
    if not len(clip):
        raise ValueError(f"the video ends before {begin:g} s; choose an earlier beginning")
    return clip


def _fitted(frame: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the frame with its longer side at most `side` pixels."""
    height, width = frame.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return frame
    return scaled(frame, (max(1, round(height * scale)), max(1, round(width * scale))))


def frames_from(clip: Clip, begin: int) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Yields as many frames as the clip has, the right ones from number `begin` on.

    Those before it are copies of the first one: a saved session has seen them, and they are only
    counted.
    """
    first = clip[0]
    for number in range(len(clip)):
        yield clip[number] if number >= begin else first
