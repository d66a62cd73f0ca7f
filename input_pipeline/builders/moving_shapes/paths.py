"""Where the actors of a clip move; units as in `scene`."""

from __future__ import annotations

import dataclasses

import numpy as np

_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_RADII = {"small": 0.1, "large": 0.165}  # of the frame's smaller side; bounds of a size change
_CANDIDATES = 24  # paths tried at a time for one actor
_CROSSING = 0.25  # share of the frames in which two actors may overlap


@dataclasses.dataclass(frozen=True)
class Path:
    """Where an actor is in every frame: center [T, 2], angle [T], radius [T]."""

    center: np.ndarray
    angle: np.ndarray
    radius: np.ndarray


def place(
    rng: np.random.Generator, motion: str, size: str, others: list[Path], frame: np.ndarray,
    length: int, step: np.ndarray, scale: float, progress: np.ndarray | None = None,
) -> Path:
    """Draws a path inside the frame that may cross the others but does not stay on them.

    Args:
      rng: randomness.
      motion: of the actor.
      size: of the actor, "" if the motion is a change of size.
      others: paths of the actors that are placed already.
      frame: [2], width and height of the frame.
      length: frames.
      step: [2], drift of the background per frame.
      scale: factor on the radius.
      progress: [T], the share of the motion that is over in each frame; None: it is even.
    """
    phase = np.linspace(0.0, 1.0, length) if progress is None else progress
    shape = _motion(rng, motion, size, float(min(frame)), phase, scale)
    track = shape.center + step * np.arange(length)[:, None]
    margin = 0.95 * shape.radius[:, None]
    low = (margin - track).max(axis=0)
    high = (frame - margin - track).min(axis=0)
    middle = (low + high) / 2  # a path longer than the frame extends beyond both ends
    low, high = np.minimum(low, middle), np.maximum(high, middle)
    best, best_cost = None, np.inf
    for _ in range(3):
        starts = rng.uniform(low, high, (_CANDIDATES, 2))
        centers = starts[:, None] + track  # [candidates, T, 2]
        cost = np.zeros(_CANDIDATES)
        for other in others:
            gap = np.linalg.norm(centers - other.center, axis=-1) / (shape.radius + other.radius)
            cost = np.maximum(cost, (gap < 0.95).mean(axis=1))
        i = int(np.argmax(cost <= _CROSSING) if cost.min() <= _CROSSING else cost.argmin())
        if cost[i] < best_cost:
            best, best_cost = centers[i], cost[i]
        if best_cost <= _CROSSING:
            break
    return Path(best, shape.angle, shape.radius)


def turns(length: int, turn: int, first: bool) -> np.ndarray:
    """Returns the progress [T] of one of two actors that move in turns of `turn` frames each."""
    moves = np.arange(length - 1) // turn % 2 == (0 if first else 1)
    return np.append(0, np.cumsum(moves)) / max(moves.sum(), 1)


def _motion(rng: np.random.Generator, motion: str, size: str, side: float, phase: np.ndarray,
            scale: float) -> Path:
    """Returns the path around the origin, without the camera's drift."""
    length = len(phase)
    center = np.zeros((length, 2))
    angle = np.full(length, rng.uniform(-0.3, 0.3))
    jitter = scale * side * rng.uniform(0.94, 1.06)
    radius = np.full(length, _RADII.get(size, 0.0) * jitter)
    turn, sign, start = rng.uniform(), rng.choice([-1.0, 1.0]), rng.uniform()
    if motion in _DIRECTIONS:
        way = side * (0.42 + 0.16 * turn)
        center = np.outer(phase - 0.5, _DIRECTIONS[motion]) * way
    elif motion == "rotating":
        angle = angle + sign * 2 * np.pi * (0.55 + 0.25 * turn) * phase
    elif motion in ("growing", "shrinking"):
        p = phase if motion == "growing" else 1 - phase
        small, large = 0.85 * _RADII["small"], 1.1 * _RADII["large"]
        radius = jitter * small * (large / small) ** p
    elif motion == "bouncing":
        hop = np.abs(np.sin(np.pi * (3 * phase + start)))
        center[:, 1] = -side * (0.24 + 0.06 * turn) * (hop - 0.5)
    elif motion == "circling":
        around = 2 * np.pi * (sign * (1.1 + 0.25 * turn) * phase + start)
        center = side * (0.13 + 0.03 * turn) * np.stack([np.cos(around), np.sin(around)], -1)
    return Path(center, angle, radius)
