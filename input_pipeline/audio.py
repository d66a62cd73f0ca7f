"""The sound of videos, and log-mel patches as VGGish's front end makes them.

Source: public torchvggish mel_features.py and vggish_params.py; numbers checked in the tests.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.input_pipeline.records import SAMPLE_RATE

WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0  # mel bands between these frequencies, Hz
PATCH = 96  # frames, 0.96 s
OFFSET = 0.01  # added before the logarithm
HIGHEST_RATE = 768_000  # of sound files, Hz; a header that says more is damaged
UNKNOWN = 2**31 - 2**16  # bytes that a WAV's header says where its writer did not know, or more


def read_audio(path: str | Path) -> np.ndarray:
    """The sound of a video or sound file: float32 [n] in [-1, 1], mono, 16 kHz.

    The mean of the channels, as in VGGish. Needs PyAV.

    Raises:
      ValueError: no such file, no sound in it, a sample rate below 16 kHz (which lacks what the
        highest mel bands hear), sound that cannot be decoded or is cut off; names the path.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("sound is read with av, which is not installed: "
                          "pip install 'vseg_jax[video]'") from error
    if not Path(path).is_file():
        raise ValueError(f"there is no sound file {path}")
    try:
        _check_length(Path(path))
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"{path} has no sound")
            stream = container.streams.audio[0]
            if reason := fault(stream):
                raise ValueError(f"{path} {reason}; extract it from the video again, as WAV of "
                                 f"16 bits and {SAMPLE_RATE} Hz")
            resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
            parts = [
                part.to_ndarray().mean(axis=0)
                for frame in _and_none(container.decode(stream))
                for part in resampler.resample(frame)
            ]
    except (OSError, av.error.FFmpegError) as error:
        raise ValueError(f"the sound of {path} cannot be decoded ({error.strerror}); it may be cut "
                         "off or no sound: extract or download it again") from error
    if not sum(map(len, parts)):
        raise ValueError(f"the sound of {path} is empty; extract or download it again")
    samples = np.concatenate(parts)
    if not np.isfinite(samples).all():
        raise ValueError(f"the sound of {path} has samples that are no numbers; extract it from "
                         f"the video again, as WAV of 16 bits and {SAMPLE_RATE} Hz")
    return samples


def fault(stream: Any) -> str:
    """Why an audio stream of PyAV cannot be read, such as "has sound of ...", or ''."""
    if stream.codec_context is None:
        return "has sound of a kind that cannot be decoded"
    if SAMPLE_RATE <= (stream.rate or 0) <= HIGHEST_RATE:
        return ""
    return (f"has sound of {stream.rate or 0} samples a second; at least {SAMPLE_RATE} are needed, "
            f"to hear up to {HIGHEST:.0f} Hz, and at most {HIGHEST_RATE} are read")


def _check_length(path: Path) -> None:
    """ValueError where a WAV is shorter than its header says: FFmpeg reads what there is."""
    with open(path, "rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return
    said, found = 8 + int.from_bytes(head[4:8], "little"), path.stat().st_size
    if found + 1 < said < UNKNOWN:  # some writers leave out the last byte, which fills a pair
        raise ValueError(f"{path} is cut off: it has {found} bytes of {said}; extract or download "
                         "it again")


def _and_none(frames):
    """The frames, and None at the end, at which a resampler gives what it holds back."""
    yield from frames
    yield None


def log_mel(samples: np.ndarray) -> np.ndarray:
    """float [n] in [-1, 1] at 16 kHz to float32 [(n - 400) // 160 + 1, 64]; no padding.

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
    """The patch float32 [96, 64] whose last window ends at `seconds`; silence before the start.

    Which stretch of sound belongs to a video frame is inferred: the paper's offset is lost.
    """
    length = (PATCH - 1) * HOP + WINDOW
    end = min(round(seconds * SAMPLE_RATE), len(samples))
    stretch = samples[max(0, end - length):end]
    return log_mel(np.concatenate([np.zeros(length - len(stretch), np.float32), stretch]))


def frame_patches(samples: np.ndarray, frames: Sequence[int], fps: float) -> np.ndarray:
    """The patches float32 [T, 96, 64] of video frames, each ending when its frame does.

    Frame t is seen from t / fps to (t + 1) / fps seconds; that a patch ends with it is inferred.

    Args:
      samples: float [n], 16 kHz.
      frames: their numbers from 0.
      fps: frames a second.
    """
    return np.stack([patch_ending_at(samples, (t + 1) / fps) for t in frames])


def silent_patches(count: int) -> np.ndarray:
    """float32 [count, 96, 64] of silence."""
    return np.full((count, PATCH, BANDS), np.log(OFFSET), np.float32)


@functools.cache
def _mel_bands() -> np.ndarray:
    """[257, 64] triangles, linear in HTK mel, with nothing of the constant."""

    def mel(hertz):
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    bins = mel(np.linspace(0.0, SAMPLE_RATE / 2, FFT // 2 + 1))[:, None]
    edges = np.linspace(mel(LOWEST), mel(HIGHEST), BANDS + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    bands = np.maximum(0.0, np.minimum(rising, falling))
    bands[0] = 0.0
    return bands
