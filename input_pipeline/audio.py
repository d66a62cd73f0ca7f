"""The audio of videos, and log-mel patches as computed by VGGish's front end.

Source: public torchvggish mel_features.py and vggish_params.py; the tests compare the numbers.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.input_pipeline.records import SAMPLE_RATE

WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0  # mel bands between these frequencies, Hz
PATCH = 96  # frames, 0.96 s
OFFSET = 0.01  # added before the logarithm
GAP = 0.05  # seconds without samples, from which a recording was interrupted
LONGEST_GAP = 600.0  # seconds; a longer one is a wrong time stamp
HIGHEST_RATE = 768_000  # Hz; a file whose header claims more is damaged
UNKNOWN = 2**31 - 2**16  # bytes; a WAV header with this length or more was written before the data


def read_audio(path: str | Path) -> np.ndarray:
    """Returns the audio of a video or audio file: float32 [n] in [-1, 1], mono, 16 kHz.

    The channels are averaged, as in VGGish. Needs PyAV.

    Raises:
      ImportError: PyAV is not installed.
      ValueError: no such file, no audio in it, a sample rate below 16 kHz (which lacks the highest
        mel bands), audio that cannot be decoded or is cut off; names the path.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("audio is read with av, which is not installed: "
                          "pip install 'vseg_jax[video]'") from error
    if not Path(path).is_file():
        raise ValueError(f"there is no audio file {path}")
    try:
        _check_length(Path(path))
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"{path} has no audio")
            stream = container.streams.audio[0]
            if reason := fault(stream):
                raise ValueError(f"{path} {reason}; extract it from the video again, as WAV of "
                                 f"16 bits and {SAMPLE_RATE} Hz")
            parts = [samples for _, samples in resample(container.decode(stream))]
    except (OSError, av.error.FFmpegError) as error:
        raise ValueError(f"the audio of {path} cannot be decoded ({error.strerror}); it may be cut "
                         "off or not audio: extract or download it again") from error
    except NonFiniteAudioError as error:
        raise ValueError(f"the audio of {path} has {error}; extract it from the video again, as "
                         f"WAV of 16 bits and {SAMPLE_RATE} Hz") from error
    if not sum(map(len, parts)):
        raise ValueError(f"the audio of {path} is empty; extract or download it again")
    return np.concatenate(parts)


class NonFiniteAudioError(ValueError):
    """Decoded samples are NaN or infinite."""


def resample(
    frames: Iterable[Any], rate: int = SAMPLE_RATE, layout: str | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Resamples the decoded frames of an audio stream; gaps between them become silence.

    Args:
      frames: of PyAV, in order.
      rate: of the result, Hz.
      layout: of the result's channels ("stereo"); None averages those of the stream.

    Yields:
      The time of the stream's first decoded frame, seconds, and the next samples, float32 [n], or
      [channels, n] with a `layout`.

    Raises:
      NonFiniteAudioError: a sample is NaN or infinite.
    """
    import av

    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    start, end = None, 0.0
    for frame in itertools.chain(frames, [None]):  # None flushes the resampler
        if start is None:
            start = end = 0.0 if frame is None or frame.time is None else frame.time
        gap = 0.0 if frame is None or frame.time is None else frame.time - end
        for part in resampler.resample(frame):
            samples = part.to_ndarray()
            if gap > GAP:
                silence = np.zeros((len(samples), round(min(gap, LONGEST_GAP) * rate)), np.float32)
                samples, gap, end = np.concatenate([silence, samples], axis=1), 0.0, end + gap
            if not np.isfinite(samples).all():
                raise NonFiniteAudioError("non-finite samples")
            yield start, samples if layout else samples.mean(axis=0)
        if frame is not None:
            end += frame.samples / frame.sample_rate


def fault(stream: Any) -> str:
    """Returns why an audio stream of PyAV cannot be read ("has audio of ..."), or ''."""
    if stream.codec_context is None:
        return "has audio of a kind that cannot be decoded"
    if SAMPLE_RATE <= (stream.rate or 0) <= HIGHEST_RATE:
        return ""
    return (f"has audio with a sample rate of {stream.rate or 0} Hz; at least {SAMPLE_RATE} are "
            f"needed, for frequencies up to {HIGHEST:.0f} Hz, and at most {HIGHEST_RATE} are read")


def _check_length(path: Path) -> None:
    """Raises a ValueError if a WAV is shorter than its header says: FFmpeg would read the rest."""
    with open(path, "rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return
    expected, found = 8 + int.from_bytes(head[4:8], "little"), path.stat().st_size
    if found + 1 < expected < UNKNOWN:  # some writers omit the padding byte at the end
        raise ValueError(f"{path} is cut off: it has {found} bytes of {expected}; extract or "
                         "download it again")


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Returns the log-mel bands float32 [(n - 400) // 160 + 1, 64] of float [n], without padding.

    Args:
      samples: float [n] in [-1, 1] at 16 kHz.

    Raises:
      ValueError: fewer samples than one window.
    """
    if samples.ndim != 1 or len(samples) < WINDOW:
        raise ValueError(f"audio must be [n] with at least {WINDOW} samples, got {samples.shape}")
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)  # periodic
    magnitude = np.abs(np.fft.rfft(windows * hann, FFT))
    return np.log(magnitude @ _mel_bands() + OFFSET).astype(np.float32)


def patch_ending_at(samples: np.ndarray, seconds: float) -> np.ndarray:
    """Returns the patch float32 [96, 64] that ends at `seconds`, with silence before the start.

    Which part of the audio belongs to a video frame is inferred: the paper's offset is lost.
    """
    length = (PATCH - 1) * HOP + WINDOW
    end = min(round(seconds * SAMPLE_RATE), len(samples))
    stretch = samples[max(0, end - length):end]
    return log_mel(np.concatenate([np.zeros(length - len(stretch), np.float32), stretch]))


def frame_patches(samples: np.ndarray, frames: Sequence[int], fps: float) -> np.ndarray:
    """Returns the patches float32 [T, 96, 64] of video frames, each ending with its frame.

    Frame t lasts from t / fps to (t + 1) / fps seconds. That a patch ends with its frame is
    inferred.

    Args:
      samples: float [n], 16 kHz.
      frames: frame numbers from 0.
      fps: frames per second.
    """
    return np.stack([patch_ending_at(samples, (t + 1) / fps) for t in frames])


def silent_patches(count: int) -> np.ndarray:
    """Returns patches of silence, float32 [count, 96, 64]."""
    return np.full((count, PATCH, BANDS), np.log(OFFSET), np.float32)


@functools.cache
def _mel_bands() -> np.ndarray:
    """Returns triangular bands [257, 64], linear in HTK mel, without the constant component."""

    def mel(hertz: Any) -> Any:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    bins = mel(np.linspace(0.0, SAMPLE_RATE / 2, FFT // 2 + 1))[:, None]
    edges = np.linspace(mel(LOWEST), mel(HIGHEST), BANDS + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    bands = np.maximum(0.0, np.minimum(rising, falling))
    bands[0] = 0.0
    return bands
