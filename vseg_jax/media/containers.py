"""Containers of FFmpeg: opened, with their picture, and what of a stream can be decoded.

Needs PyAV (`pip install 'vseg_jax[video]'`), which brings its own codecs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any


def open_container(path: Path) -> Any:
    """Returns the open PyAV container of a video.

    Raises:
      ValueError: it cannot be opened, or holds no video.
    """
    av = require_av()
    try:
        container = av.open(os.fspath(path))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be opened as a video{reason(error)}; it is not a video "
                         "or is truncated: check that a player shows it") from error
    if picture_stream(container) is None:
        container.close()
        raise ValueError(f"{path} holds no video; it has only audio or is truncated")
    return container


def picture_stream(container: Any) -> Any:
    """Returns the stream of an open container that players show, None if there is none.

    The cover picture of a song is not a video.
    """
    stream = container.streams.best("video")
    if stream is None or stream.disposition & type(stream.disposition).attached_pic:
        return None
    return stream


class Decodable:
    """The frames of a stream of an open PyAV container, without those that are damaged.

    Players skip damaged frames, too. A container that cannot be read further ends the iteration.

    Args:
      container: open.
      stream: of it, video or audio.
      tell: called with the first error of FFmpeg, when it occurs.

    Attributes:
      hidden: number of packets before the start of an edit list, which have no frame.
      fault: the latest error of FFmpeg; None if there was none.
      resumed: whether frames came that are shown after a packet with an error.
    """

    def __init__(
        self, container: Any, stream: Any, tell: Callable[[Any], None] = lambda error: None
    ) -> None:
        self._packets = container.demux(stream)
        self._tell = tell
        self.hidden = 0
        self.fault: Any = None
        self.resumed = False

    def __iter__(self) -> Iterator[Any]:
        av = require_av()
        lost = None   # time stamp of the latest packet with an error
        try:
            for packet in self._packets:
                self.hidden += packet.is_discard
                try:
                    frames = packet.decode()
                except av.error.FFmpegError as error:
                    self._note(error)
                    lost = packet.pts
                    continue
                self.resumed |= None not in (lost, *(frame.pts for frame in frames)) and any(
                    frame.pts > lost for frame in frames)
                yield from frames
        except av.error.FFmpegError as error:
            self._note(error)

    def _note(self, error: Any) -> None:
        if self.fault is None:
            self._tell(error)
        self.fault = error


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


def reason(error: Any) -> str:
    """Returns an error of FFmpeg, or None, for the end of a statement."""
    return f" ({error.strerror})" if error else ""
