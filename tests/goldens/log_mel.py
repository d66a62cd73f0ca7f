"""Writes log_mel.npz: the log-mel patch of a synthetic signal by VGGish's public front end.

    python tests/goldens/log_mel.py --references FOLDER

FOLDER/torchvggish is a working copy of harritaylor/torchvggish at
f3f90969ce8fb77a05d984b892ddf662e8466377, of which torchvggish/mel_features.py and
torchvggish/vggish_params.py are imported. The signal (seed 0) is stored with the patch.
"""

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np


def audio(seed: int, count: int = 15600) -> np.ndarray:
    """Returns int16 [count]: a chirp from 60 Hz to the highest frequency, silence, then noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(count) / 16000
    chirp = np.sin(2 * np.pi * (60 * time + 0.5 * 7940 / time[-1] * time**2))
    loud = np.where(time < 0.6 * time[-1], 0.6, 0.0)
    noise = rng.normal(0, 0.1, count) * (time > 0.75 * time[-1])
    return np.rint(32767 * np.clip(loud * chirp + noise, -1, 1)).astype(np.int16)


def official(references: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns float samples at 16 kHz -> log-mel [T, 64]."""
    modules = []
    for name in ("mel_features", "vggish_params"):
        path = references / "torchvggish" / "torchvggish" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"reference_{name}", path)
        modules.append(importlib.util.module_from_spec(spec))
        spec.loader.exec_module(modules[-1])
    features, params = modules

    def log_mel(samples: np.ndarray) -> np.ndarray:
        return features.log_mel_spectrogram(
            samples, audio_sample_rate=params.SAMPLE_RATE, log_offset=params.LOG_OFFSET,
            window_length_secs=params.STFT_WINDOW_LENGTH_SECONDS,
            hop_length_secs=params.STFT_HOP_LENGTH_SECONDS, num_mel_bins=params.NUM_MEL_BINS,
            lower_edge_hertz=params.MEL_MIN_HZ, upper_edge_hertz=params.MEL_MAX_HZ)

    return log_mel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=Path, required=True)
    samples = audio(0)
    mel = official(parser.parse_args().references)(samples / 32768)
    path = Path(__file__).with_suffix(".npz")
    np.savez_compressed(path, samples=samples, log_mel=mel.astype(np.float32))
    print(f"{path}: {mel.shape}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
