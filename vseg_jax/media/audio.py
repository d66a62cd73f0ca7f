"""The sound of videos in step with their frames, and what a stream has heard of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from vseg_jax.input_pipeline.audio import HOP, PATCH, WINDOW, fault, patch_ending_at, silent_patches
from vseg_jax.input_pipeline.records import SAMPLE_RATE
from vseg_jax.media.video import Video

_HEARD = (PATCH - 1) * HOP + WINDOW  # samples of a log-mel patch


class AudioStream:
    """What one stream has heard: of the last frames as many samples as a log-mel patch holds."""

    def __init__(self):
        self._kept = np.zeros(0, np.float32)

    def push(
        self, samples: Float[np.ndarray, " n"] | None
    ) -> tuple[Float[np.ndarray, "96 64"], np.bool_]:
        """The patch that ends with a frame, and whether there is anything to be heard.

        Args:
          samples: of the time since the frame before, as `check_samples` returns them; None for a frame
            without sound, after which the sound begins anew.
        """
        if samples is None:
            self._kept = self._kept[:0]
            return silent_patches(1)[0], np.False_
        self._kept = np.concatenate([self._kept, samples])[-_HEARD:]
        return patch_ending_at(self._kept, len(self._kept) / SAMPLE_RATE), np.True_


def check_samples(samples: Any, frame: int) -> Float[np.ndarray, " n"] | None:
    """The samples that come with frame number `frame`, as float32.

    Raises:
      ValueError: what they are not.
    """
    if samples is None:
        return None
    array = np.asarray(samples)
    if array.ndim != 1 or array.dtype.kind != "f" or not np.isfinite(array).all():
        numbers = " with values that are no numbers" if array.dtype.kind == "f" else ""
        raise ValueError(f"the sound of frame {frame} is {array.dtype} {list(array.shape)}"
                         f"{numbers if array.ndim == 1 else ''}; it is float [n] in [-1, 1], the "
                         f"samples (mono, {SAMPLE_RATE} a second) since the frame before")
    return array.astype(np.float32)


def split_by_frame(pieces: Iterable[np.ndarray], fps: float) -> Iterator[Float[np.ndarray, " n"]]:
    """The samples of each frame of a video, without an end: no samples where the sound is over.

    Frame t is seen from t / fps to (t + 1) / fps seconds, as in training.

    Args:
      pieces: samples of 16 kHz in stretches of any length; read no further than is needed.
      fps: frames a second.
    """
    pieces, held, begin = iter(pieces), np.zeros(0, np.float32), 0
    for t in itertools.count():
        end = round((t + 1) / fps * SAMPLE_RATE)
        parts = [held]
        while sum(map(len, parts)) < end - begin:
            piece = next(pieces, None)
            if piece is None:
                break
            parts.append(piece)
        held = np.concatenate(parts) if len(parts) > 1 else held
        yield held[:end - begin]
        held, begin = held[end - begin:], end


def audio_of_video(video: Video) -> Iterator[Float[np.ndarray, " n"]] | None:
    """The samples of each frame of a video, read as it goes on; None, with a warning, where it has
    no sound that could be used."""
    import av

    with av.open(os.fspath(video.path)) as container:
        streams = container.streams.audio
        reason = fault(streams[0]) if streams else "has no sound"
        with contextlib.suppress(av.error.FFmpegError):  # `_decoded` says so
            if not reason and next(container.decode(streams[0]), None) is None:
                reason = "has a sound track with no sample"
    if reason:
        warnings.warn(f"{video.path} {reason}; the model hears silence", stacklevel=2)
        return None
    return split_by_frame(_decoded(video), video.fps)


def _decoded(video: Video) -> Iterator[np.ndarray]:
    """Mono float32 at 16 kHz from the time of the first picture on."""
    import av

    with av.open(os.fspath(video.path)) as container:
        picture, stream = container.streams.video[0], container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
        skipped = None   # samples before the first picture, that are still to be left out
        try:
            for frame in itertools.chain(container.decode(stream), [None]):
                if skipped is None:
                    late = _seconds(frame) - float((picture.start_time or 0) * picture.time_base)
                    skipped = max(0, round(-late * SAMPLE_RATE))
                    yield np.zeros(max(0, round(late * SAMPLE_RATE)), np.float32)
                for part in resampler.resample(frame):
                    samples = part.to_ndarray().mean(axis=0)
                    if not np.isfinite(samples).all():
                        raise ValueError("it has samples that are no numbers")
                    yield samples[skipped:]
                    skipped = max(0, skipped - len(samples))
        except (av.error.FFmpegError, ValueError) as error:
            warnings.warn(f"the sound of {video.path} cannot be decoded further "
                          f"({getattr(error, 'strerror', error)}); the model hears no more of it",
                          stacklevel=2)


def _seconds(frame: Any) -> float:
    return 0.0 if frame is None or frame.time is None else frame.time
