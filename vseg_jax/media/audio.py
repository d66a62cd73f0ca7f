"""Audio in step with the frames of a video: per frame from a file, and as patches for a model."""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from vseg_jax.input_pipeline.audio import (
    HOP,
    PATCH,
    WINDOW,
    decode,
    fault,
    patch_ending_at,
    silent_patches,
)
from vseg_jax.input_pipeline.records import SAMPLE_RATE
from vseg_jax.media.video import Video, require_av

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
    chunks, held, start = iter(chunks), np.zeros(0, np.float32), 0
    for t in itertools.count():
        end = round((t + 1) / fps * SAMPLE_RATE)
        parts = [held]
        while sum(map(len, parts)) < end - start:
            chunk = next(chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
        held = np.concatenate(parts) if len(parts) > 1 else held
        yield held[:end - start]
        held, start = held[end - start:], end


def audio_of_video(video: Video) -> Iterator[Float[np.ndarray, " n"]] | None:
    """Returns the samples of each frame of a video file, read on demand.

    Returns None, with a warning, if the file has no audio track that can be used.
    """
    av = require_av()
    with av.open(os.fspath(video.path)) as container:
        streams = container.streams.audio
        reason = fault(streams[0]) if streams else "has no audio track"
        with contextlib.suppress(av.error.FFmpegError):  # `_decoded` warns about it
            if not reason and next(container.decode(streams[0]), None) is None:
                reason = "has an audio track without samples"
    if reason:
        warnings.warn(f"{video.path} {reason}; the model gets silence", stacklevel=2)
        return None
    return split_by_frame(_decoded(video), video.fps)


def _decoded(video: Video) -> Iterator[np.ndarray]:
    """Yields mono float32 samples at 16 kHz, beginning at the time of the first picture."""
    av = require_av()
    with av.open(os.fspath(video.path)) as container:
        picture, stream = container.streams.video[0], container.streams.audio[0]
        skipped = None   # samples before the first picture that still have to be dropped
        try:
            for start, samples in decode(container, stream):
                if skipped is None:
                    late = start - float((picture.start_time or 0) * picture.time_base)
                    skipped = max(0, round(-late * SAMPLE_RATE))
                    yield np.zeros(max(0, round(late * SAMPLE_RATE)), np.float32)
                yield samples[skipped:]
                skipped = max(0, skipped - len(samples))
        except (av.error.FFmpegError, ValueError) as error:
            warnings.warn(f"the audio of {video.path} cannot be decoded further "
                          f"({getattr(error, 'strerror', error)}); the model gets silence from "
                          "there on", stacklevel=2)
