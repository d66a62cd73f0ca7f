"""The audio of a scene: an actor makes the tone of its category while it moves."""

from __future__ import annotations

import functools

import numpy as np

from vseg_jax.input_pipeline.builders.moving_shapes.scene import SHAPES, Scene
from vseg_jax.input_pipeline.records import SAMPLE_RATE

# C major pentatonic from C4, so that any mixture is pleasant: one tone per category, Hz.
TONES = dict(zip(SHAPES, (261.63, 293.66, 329.63, 392.0, 440.0, 523.25, 587.33, 659.26),
                 strict=True))


def mix(scene: Scene, fps: float) -> np.ndarray:
    """Returns float32 [round(T / fps * 16000)] in [-1, 1]; loudness follows an actor's speed."""
    length = len(scene.paths[0].angle)
    count = round(length / fps * SAMPLE_RATE)
    times = np.arange(count) / SAMPLE_RATE * fps
    audio = np.zeros(count, np.float32)
    for appearance, loudness in zip(scene.appearances, _loudness(scene), strict=True):
        if loudness.any():
            envelope = np.interp(times, np.arange(length) + 0.5, loudness)
            audio += envelope.astype(np.float32) * _tone(TONES[appearance.shape], count)
    return 0.18 * audio


def _loudness(scene: Scene) -> np.ndarray:
    """Returns [N, T] in [0, 1]: speed of an actor's fastest points in radii per clip, at most 1."""
    rows = []
    for path in scene.paths:
        if len(path.angle) < 2:
            rows.append(np.zeros(len(path.angle)))
            continue
        slide = np.linalg.norm(np.diff(path.center, axis=0) - scene.drift, axis=1)
        turn = np.abs(np.diff(path.angle)) * path.radius[:-1]
        grow = np.abs(np.diff(path.radius))
        speed = (slide + turn + grow) / path.radius[:-1]
        way = (len(path.angle) - 1) * np.append(speed, speed[-1])
        rows.append(np.clip(way, 0, 1))
    rows = np.stack(rows)
    loudness = np.where(rows < 1e-6, 0.0, rows)
    loudness[list(scene.silent)] = 0.0
    return loudness


@functools.lru_cache(maxsize=len(SHAPES))
def _tone(frequency: float, count: int) -> np.ndarray:
    """Returns a sine and its third harmonic, which no other category has, faded over 10 ms."""
    time = np.arange(count) / SAMPLE_RATE
    wave = np.sin(2 * np.pi * frequency * time) + 0.25 * np.sin(6 * np.pi * frequency * time)
    fade = np.clip(np.minimum(time, time[::-1]) / 0.01, 0, 1)
    return (0.8 * fade * wave).astype(np.float32)
