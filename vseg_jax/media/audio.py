"""Audio in step with the frames of a video: per frame from a file, and as patches for a model."""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from vseg_jax.input_pipeline.audio import (
    HOP,
    PATCH,
    WINDOW,
    fault,
    patch_ending_at,
    resample,
    silent_patches,
)
from vseg_jax.input_pipeline.records import SAMPLE_RATE
from vseg_jax.media.containers import Decodable, require_av
from vseg_jax.media.excerpt import Excerpt
from vseg_jax.media.video import SOUND_RATE, Video

_PATCH_SAMPLES = (PATCH - 1) * HOP + WINDOW  # that a log-mel patch covers


class AudioStream:
    """The most recent audio of one stream, as many samples as a log-mel patch covers.

    Attributes:
      recent: these samples, float32 [n].
    """

    def __init__(self, recent: Sequence[float] = ()) -> None:
        self.recent = np.array(recent, np.float32)

    def push(
        self, samples: Float[np.ndarray, " n"] | None
    ) -> tuple[Float[np.ndarray, "96 64"], np.bool_]:
        """Adds the audio of a frame and returns the log-mel patch that ends with the frame.

        Args:
          samples: the samples since the previous frame, as `check_samples` returns them; None for a
            frame without audio, which also drops all earlier audio.

        Returns:
          patch: of the most recent 0.96 s, padded with silence at the front.
          valid: False for a frame without audio, whose patch is silence.
        """
        if samples is None:
            self.recent = self.recent[:0]
            return silent_patches(1)[0], np.False_
        self.recent = np.concatenate([self.recent, samples])[-_PATCH_SAMPLES:]
        return patch_ending_at(self.recent, len(self.recent) / SAMPLE_RATE), np.True_


def check_samples(samples: Any, frame: int) -> Float[np.ndarray, " n"] | None:
    """Returns the samples that come with frame number `frame` as float32; None stays None.

    Raises:
      ValueError: the samples are not a one-dimensional array of finite floats.
    """
    if samples is None:
        return None
    array = np.asarray(samples)
    if array.ndim != 1 or array.dtype.kind != "f" or not np.isfinite(array).all():
        flaw = " with non-finite values" if array.dtype.kind == "f" and array.ndim == 1 else ""
        raise ValueError(f"the audio of frame {frame} is {array.dtype} {list(array.shape)}{flaw}; "
                         "it must be float [n] in [-1, 1]: the samples since the previous frame, "
                         f"mono, at {SAMPLE_RATE} Hz")
    return array.astype(np.float32)


def split_by_frame(
    chunks: Iterable[np.ndarray], fps: float
) -> Iterator[Float[np.ndarray, " n"]]:
    """Yields the samples of each frame of a video, without end: empty arrays after the last sample.

    Frame t is on screen from t / fps to (t + 1) / fps seconds, as in training.

    Args:
      chunks: audio samples at 16 kHz in pieces of any length; read no further than needed.
      fps: frames per second.
    """
    return _split(iter(chunks), ((t + 1) / fps for t in itertools.count()))


def _split(chunks: Iterator[np.ndarray], ends: Iterator[float]) -> Iterator[np.ndarray]:
    """Yields the samples before each of the times `ends`, in seconds, and after the one before."""
    held, start = np.zeros(0, np.float32), 0
    for seconds in ends:
        end = max(start, round(seconds * SAMPLE_RATE))
        parts = [held]
        while sum(map(len, parts)) < end - start:
            chunk = next(chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
        held = np.concatenate(parts) if len(parts) > 1 else held
        yield held[:end - start]
        held, start = held[end - start:], end


def audio_of_video(video: Video | Excerpt) -> Iterator[Float[np.ndarray, " n"]] | None:
    """Returns the samples of each frame of a video file, while it is on screen (`times`).

    Take those of a frame after the frame itself has been read from `iter(video)`.

    Returns None, with a warning, if the file has no audio track that can be used.
    """
    reason = _fault(video, fault)
    if reason:
        warnings.warn(f"{video.path} {reason}; the model gets silence", stacklevel=2)
        return None

    def samples() -> Iterator[np.ndarray]:   # begins when the first frame has been read
        first = video.times[0]
        ends = (video.times[t + 1] - first for t in itertools.count())
        yield from _split(_decoded(video, first, SAMPLE_RATE, None, "the model gets"), ends)

    return samples()


def sound_of_video(
    video: Video | Excerpt, begin: float | None = 0.0
) -> Iterator[Float[np.ndarray, "2 n"]] | None:
    """Returns the sound of a video file in stereo at `SOUND_RATE`, for `VideoWriter`.

    Args:
      video: the file, or a part of it.
      begin: where the sound begins, in seconds from the beginning of the file; None for the first
        frame that is read. Take none of it before that frame has been read.

    Returns None if the file has no audio track that can be decoded.
    """
    def unknown(stream: Any) -> str:
        return "" if stream.codec_context else "has audio of a kind that cannot be decoded"

    def samples() -> Iterator[np.ndarray]:
        first = video.times[0] if begin is None else begin
        yield from _decoded(video, first, SOUND_RATE, "stereo", "the overlay has")

    return None if _fault(video, unknown) else samples()


def _fault(video: Video | Excerpt, fault: Callable[[Any], str]) -> str:
    """Returns why the audio of a video cannot be used, or ''.

    Args:
      video: the file.
      fault: returns what is wrong with a stream.
    """
    av = require_av()
    with av.open(os.fspath(video.path)) as container:
        stream = container.streams.best("audio")
        reason = fault(stream) if stream else "has no audio track"
        with contextlib.suppress(av.error.FFmpegError):  # `_decoded` warns about it
            if not reason and next(container.decode(stream), None) is None:
                reason = "has an audio track without samples"
    return reason


def _decoded(
    video: Video | Excerpt, first: float, rate: int, layout: str | None, who: str
) -> Iterator[np.ndarray]:
    """Yields samples from a time on, in seconds from the beginning of the file; see `resample`.

    `who` gets silence in place of what is damaged, for the warning.
    """
    def tell(fault: Any) -> None:
        warnings.warn(f"some of the audio of {video.path} cannot be decoded ({fault.strerror}); "
                      f"{who} silence there", stacklevel=2)

    av = require_av()
    with av.open(os.fspath(video.path)) as container:
        origin = (container.start_time or 0) / av.time_base
        skipped = None   # samples before `first` that still have to be dropped
        frames = Decodable(container, container.streams.best("audio"), tell)
        try:
            for start, samples in resample(frames, rate, layout):
                if skipped is None:
                    late = start - origin - first
                    skipped = max(0, round(-late * rate))
                    yield np.zeros((*samples.shape[:-1], max(0, round(late * rate))), np.float32)
                yield samples[..., skipped:]
                skipped = max(0, skipped - samples.shape[-1])
        except (av.error.FFmpegError, ValueError) as error:   # of the resampler, or its samples
            warnings.warn(f"the audio of {video.path} cannot be decoded further "
                          f"({getattr(error, 'strerror', error)}); {who} silence from there on",
                          stacklevel=2)
