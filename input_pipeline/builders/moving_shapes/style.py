"""The style of a clip, which sets the two domains apart: background, light, shadow, noise, blur."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np


@dataclasses.dataclass(frozen=True)
class Style:
    """The look of a clip, apart from its content; see `draw_style`.

    Attributes:
      canvas: float32 [H + 2m, W + 2m, 3], the background that the drifting camera sees.
      margin: m, pixels.
      gain: float32 [H, W, 3], factor on every frame (light and its color).
      shadow: (dx, dy, strength), offset in radii.
      noise: standard deviation, gray levels.
      blur: standard deviation, pixels; 0 for none.
    """

    canvas: np.ndarray
    margin: int
    gain: np.ndarray
    shadow: tuple[float, float, float]
    noise: float
    blur: float


def draw_style(rng: np.random.Generator, height: int, width: int, drift: float,
               shifts: tuple[str, ...], backgrounds: Sequence[str] = ("pale",),
               strength: float = 1.0) -> Style:
    """Draws background, light and camera of a clip.

    Args:
      rng: randomness; every part draws from its own stream, so that one shift does not change the
        others.
      height: of the frames.
      width: of the frames.
      drift: length of the camera's path over the clip, pixels.
      shifts: which of "light" and "noise" are as in the target domain.
      backgrounds: kinds of background to choose from, keys of `BACKGROUNDS`.
      strength: of the shift "light", within 0 to 2.
    """
    back, light, camera = rng.spawn(3)
    margin = int(np.ceil(drift)) + 2
    size = (height + 2 * margin, width + 2 * margin)
    kind = backgrounds[int(back.integers(len(backgrounds))) if len(backgrounds) > 1 else 0]
    canvas = BACKGROUNDS[kind](back, *size)
    if "light" in shifts:
        gain = 1 + strength * (_side_light(light, height, width) - 1)
        heading = light.uniform(0, 2 * np.pi)
        shadow = (0.45 * np.cos(heading), 0.45 * np.sin(heading), 0.5)
    else:
        gain = np.ones((height, width, 3), np.float32)
        shadow = (0.12, 0.3, 0.28)
    noisy = "noise" in shifts
    return Style(canvas, margin, gain, shadow,
                 noise=camera.uniform(3, 9) if noisy else 0.0,
                 blur=camera.uniform(0.35, 0.65) * min(height, width) / 64 if noisy else 0.0)


def _field(
    rng: np.random.Generator, cells: int, height: int, width: int, channels: int = 1
) -> np.ndarray:
    """Returns a smooth random field [H, W, channels], about [-1, 1], `cells` bumps along a side."""
    coarse = rng.uniform(-1, 1, (cells + 2, cells + 2, channels)).astype(np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return fine.reshape(height, width, channels)


def _pale(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a background of two pale colors that blend into each other."""
    first, second = rng.uniform(196, 246, (2, 3)).astype(np.float32)
    mix = 0.5 + 0.5 * np.clip(_field(rng, 1, height, width), -1, 1)
    return first + mix * (second - first) + 5 * _field(rng, 3, height, width)


def _muted(rng: np.random.Generator, low: float, high: float, spread: float) -> tuple[float, ...]:
    """Returns a color for OpenCV: a gray level of the range, changed by up to `spread`."""
    gray = rng.uniform(low, high)
    return tuple(float(c) for c in gray + rng.uniform(-spread, spread, 3))


def _clutter(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a background of muted patches, strips and grain at several scales."""
    side = min(height, width)
    ground = rng.uniform(70, 170, 3) + 28 * _field(rng, 3, height, width, 3)
    canvas = np.clip(ground, 0, 255).astype(np.uint8)  # OpenCV draws soft edges in 8 bits only
    for _ in range(int(rng.integers(14, 22))):
        color = _muted(rng, 45, 195, 26)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        angle = rng.uniform(0, 180)
        long, short = side * rng.uniform(0.15, 0.7), side * rng.uniform(0.03, 0.16)
        box = cv2.boxPoints(((x, y), (long, short), angle))
        cv2.fillConvexPoly(canvas, np.rint(box * 16).astype(np.int32), color, cv2.LINE_AA, 4)
    grain = 13 * _field(rng, side // 6, height, width) + 9 * _field(rng, side // 3, height, width)
    return np.clip(canvas + grain, 0, 255)


def _two_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns two muted colors of any brightness, which differ visibly."""
    gray = rng.uniform(50, 230)
    other = np.clip(gray + rng.choice([-1, 1]) * rng.uniform(25, 60), 30, 245)
    return gray + rng.uniform(-25, 25, 3), other + rng.uniform(-25, 25, 3)


def _mixed(rng: np.random.Generator, mix: np.ndarray) -> np.ndarray:
    """Returns [H, W, 3]: two colors, mixed by [H, W] within [0, 1]."""
    first, second = _two_colors(rng)
    canvas = first + mix[..., None] * (second - first)
    return np.clip(canvas + 4 * _field(rng, 4, *mix.shape), 0, 255).astype(np.float32)


def _coordinates(
    rng: np.random.Generator, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coordinates [H, W] along two perpendicular random axes, in smaller sides."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width] / min(height, width)
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a background of two colors that blend along a line."""
    along, _ = _coordinates(rng, height, width)
    return _mixed(rng, (along - along.min()) / np.ptp(along))


def _stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a background of stripes of equal width."""
    along, _ = _coordinates(rng, height, width)
    wave = np.sin(2 * np.pi * along / rng.uniform(0.12, 0.4))
    return _mixed(rng, np.clip(0.5 + 2 * wave, 0, 1))


def _tiles(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a background of a rotated checkerboard."""
    side = rng.uniform(0.1, 0.3)
    rows, columns = (np.floor(c / side) for c in _coordinates(rng, height, width))
    return _mixed(rng, (rows + columns) % 2)


def _blobs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a background of irregular blobs."""
    field = _field(rng, int(rng.integers(3, 7)), height, width)[..., 0]
    return _mixed(rng, np.clip(0.5 + 3 * field, 0, 1))


def _patchwork(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a background of polygons in many colors: the cells nearest to random points."""
    points = rng.uniform(0, 1, (int(rng.integers(10, 20)), 2)) * (height, width)
    y, x = np.mgrid[:height, :width]
    nearest = ((y[..., None] - points[:, 0])**2 + (x[..., None] - points[:, 1])**2).argmin(-1)
    colors = rng.uniform(40, 220, (len(points), 1)) + rng.uniform(-30, 30, (len(points), 3))
    grain = 8 * _field(rng, min(height, width) // 6, height, width)
    return np.clip(colors[nearest] + grain, 0, 255).astype(np.float32)


def _side_light(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns the gain of tinted light from one side."""
    heading = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = (np.cos(heading) * x + np.sin(heading) * y) * rng.uniform(0.1, 0.3)
    cast = 1 + rng.uniform(-0.13, 0.13, 3)
    return ((rng.uniform(0.7, 1.05) + slope)[..., None] * cast).astype(np.float32)


def _confetti(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a background of discs in many colors."""
    side = min(height, width)
    canvas = np.full((height, width, 3), rng.uniform(50, 220, 3), np.uint8)
    for _ in range(int(rng.integers(25, 45))):
        color = _muted(rng, 40, 220, 30)
        center = (int(rng.uniform(0, width) * 16), int(rng.uniform(0, height) * 16))
        cv2.circle(canvas, center, int(side * rng.uniform(0.03, 0.12) * 16), color, -1,
                   cv2.LINE_AA, 4)
    return canvas.astype(np.float32)


def _shards(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a background of pointed quadrilaterals in many colors."""
    side = min(height, width)
    canvas = np.full((height, width, 3), rng.uniform(40, 215, 3), np.uint8)
    for _ in range(int(rng.integers(20, 35))):
        color = _muted(rng, 50, 205, 50)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 4))
        reach = side * rng.uniform(0.05, 0.25, (4, 1))
        corners = rng.uniform(0, 1, 2) * (width, height) + reach * np.stack(
            [np.cos(angles), np.sin(angles)], 1)
        cv2.fillPoly(canvas, [np.rint(corners * 16).astype(np.int32)], color, cv2.LINE_AA, 4)
    return canvas.astype(np.float32)


BACKGROUNDS = {
    "pale": _pale, "gradient": _gradient, "stripes": _stripes, "tiles": _tiles, "blobs": _blobs,
    "clutter": _clutter, "patchwork": _patchwork, "confetti": _confetti, "shards": _shards,
}
