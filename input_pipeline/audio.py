"""Log-mel patches as VGGish's front end makes them.

Source: public torchvggish mel_features.py and vggish_params.py; numbers checked in the tests.
"""

from __future__ import annotations

import functools

import numpy as np

from input_pipeline.records import SAMPLE_RATE

WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0  # mel bands between these frequencies, Hz
PATCH = 96  # frames, 0.96 s
OFFSET = 0.01  # added before the logarithm


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
