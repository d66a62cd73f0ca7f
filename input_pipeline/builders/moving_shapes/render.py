"""Draws a scene: frames, index masks and the flow of visible pixels.

Shapes and textures are tables of signed distances (see `shapes`). One affine warp per frame maps
them to the screen, where the distance gives the mask (its sign at the pixel's center) and the soft
edge (half a pixel to either side).
"""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np

from vseg_jax.input_pipeline.builders.moving_shapes.paths import Path
from vseg_jax.input_pipeline.builders.moving_shapes.scene import Appearance, Scene
from vseg_jax.input_pipeline.builders.moving_shapes.shapes import REACH, SAMPLES, table_of
from vseg_jax.input_pipeline.builders.moving_shapes.style import Style

Box = tuple[slice, slice]  # rows and columns of a frame

RGB = {
    "red": (222, 45, 48), "orange": (247, 131, 28), "yellow": (252, 211, 38),
    "green": (52, 168, 76), "cyan": (52, 205, 224), "blue": (38, 92, 226),
    "purple": (130, 58, 182), "pink": (246, 134, 190),
}
_SHADOW = 0.35  # reach of the soft shadow, in radii


@dataclasses.dataclass(frozen=True)
class Rendering:
    """The pictures of a clip.

    Attributes:
      frames: uint8 [T, H, W, 3] RGB.
      masks: uint8 [T, H, W], 0 for the background, i + 1 for actor i.
      flow: float32 [T - 1, H, W, 2], (u right, v down) in pixels, from each frame to the next.
    """

    frames: np.ndarray
    masks: np.ndarray
    flow: np.ndarray


def render(scene: Scene, style: Style, rng: np.random.Generator) -> Rendering:
    """Draws all frames of a scene; `rng` is used for the noise only."""
    height, width = style.gain.shape[:2]
    length = len(scene.paths[0].angle)
    frames = np.empty((length, height, width, 3), np.uint8)
    masks = np.zeros((length, height, width), np.uint8)
    flow = np.empty((length - 1, height, width, 2), np.float32)
    flow[:] = scene.drift
    to_screen = np.stack([screen_from_shape(path) for path in scene.paths])
    to_shape = np.linalg.inv(to_screen)
    moves = to_screen[:, 1:] @ to_shape[:, :-1]  # screen at t -> screen at t + 1
    for t in range(length):
        frame = _background(style, scene.drift * t)
        for actor in scene.order:
            path = scene.paths[actor]
            box = _box(path.center[t], REACH * path.radius[t], (height, width))
            if box is None:
                continue
            inside = _paint(frame, box, to_shape[actor, t], float(path.radius[t]),
                            scene.appearances[actor], style.shadow)
            masks[t][box][inside] = actor + 1
            if t < length - 1:
                _flow(flow[t], box, inside, moves[actor, t])
        frame *= style.gain
        if style.blur:
            frame = cv2.GaussianBlur(frame, (0, 0), style.blur)
        if style.noise:
            frame += style.noise * rng.standard_normal(frame.shape, dtype=np.float32)
        np.clip(frame + 0.5, 0, 255, out=frame)
        frames[t] = frame
    return Rendering(frames, masks, flow)


def screen_from_shape(path: Path) -> np.ndarray:
    """Returns [T, 3, 3]: from a shape's own coordinates (unit radius) to the screen, per frame."""
    matrix = np.zeros((len(path.angle), 3, 3))
    c, s = path.radius * np.cos(path.angle), path.radius * np.sin(path.angle)
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1] = c, -s, s, c
    matrix[:, :2, 2], matrix[:, 2, 2] = path.center, 1
    return matrix


def _background(style: Style, shift: np.ndarray) -> np.ndarray:
    height, width = style.gain.shape[:2]
    m = style.margin
    if not shift.any():
        return style.canvas[m:m + height, m:m + width].copy()
    # screen point p shows canvas point p - shift + m
    matrix = np.array([[1, 0, m - shift[0]], [0, 1, m - shift[1]]])
    return cv2.warpAffine(style.canvas, matrix, (width, height),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REPLICATE)


def _paint(
    frame: np.ndarray, box: Box, to_shape: np.ndarray, radius: float, appearance: Appearance,
    shadow: tuple[float, float, float],
) -> np.ndarray:
    """Paints one actor over frame [H, W, 3] in place; returns bool over the box: covered pixels."""
    table = _warp(table_of(appearance.shape, appearance.texture), to_shape, *box)
    distance = table[..., 0] * radius
    _shade(frame, distance, *box, shadow, radius)
    rim = np.clip(1 + distance / max(0.12 * radius, 0.8), 0, 1)
    cover = np.clip(0.5 - distance, 0, 1)
    first, second = cover * (1 - 0.45 * rim), np.zeros_like(cover)
    if appearance.texture != "plain":
        pattern = np.clip(0.5 - table[..., 1] * radius, 0, 1) * (1 - 0.5 * rim)
        first, second = first * (1 - pattern), cover * pattern
    patch = frame[box]
    patch *= _rgb(1 - cover)
    patch += cv2.transform(cv2.merge((first, second)), _colors(appearance.color))
    return distance < 0


def _rgb(plane: np.ndarray) -> np.ndarray:
    """Returns [H, W, 3] of [H, W]; numpy's broadcasting to three channels is five times slower."""
    return cv2.merge((plane, plane, plane))


def _flow(flow: np.ndarray, box: Box, inside: np.ndarray, move: np.ndarray) -> None:
    """Writes the motion of one actor's visible pixels into flow [H, W, 2]."""
    rows, columns = box
    x = np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5)
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + np.float32(0.5)
    (a, b, c), (d, e, f) = move[:2].tolist()
    np.copyto(flow[box][..., 0], (a - 1) * x + (b * y + c), where=inside)
    np.copyto(flow[box][..., 1], d * x + ((e - 1) * y + f), where=inside)


def _shade(
    frame: np.ndarray, distance: np.ndarray, rows: slice, columns: slice,
    shadow: tuple[float, float, float], radius: float,
) -> None:
    """Draws a soft shadow, shifted by whole pixels, on what lies behind the actor."""
    dx, dy, strength = shadow
    dx, dy = round(dx * radius), round(dy * radius)
    dark = strength * np.clip(0.5 - distance / (_SHADOW * radius), 0, 1)
    height, width = frame.shape[:2]
    top, left = max(rows.start + dy, 0), max(columns.start + dx, 0)
    bottom, right = min(rows.stop + dy, height), min(columns.stop + dx, width)
    if top < bottom and left < right:
        dark = dark[top - rows.start - dy:bottom - rows.start - dy,
                    left - columns.start - dx:right - columns.start - dx]
        frame[top:bottom, left:right] *= _rgb(1 - dark)


def _box(center: np.ndarray, reach: float, shape: tuple[int, int]) -> Box | None:
    left, top = np.floor(center - reach).astype(int)
    right, bottom = np.ceil(center + reach).astype(int)
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, shape[0]), min(
        right, shape[1])
    return None if top >= bottom or left >= right else (slice(top, bottom), slice(left, right))


def _warp(table: np.ndarray, to_shape: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Returns the table's values at the pixel centers of a box."""
    per_unit = (SAMPLES - 1) / (2 * REACH)
    matrix = to_shape[:2] * per_unit
    matrix[:, 2] += REACH * per_unit
    matrix[:, 2] += matrix[:, :2] @ [columns.start + 0.5, rows.start + 0.5]
    size = (columns.stop - columns.start, rows.stop - rows.start)
    return cv2.warpAffine(table, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REPLICATE)


@functools.cache
def _colors(color: str) -> np.ndarray:
    """Returns float32 [3, 2]: a color and the color of its pattern, which contrasts with it."""
    base = np.array(RGB[color], np.float32)
    light = base @ np.array([0.299, 0.587, 0.114], np.float32) > 150
    return np.stack([base, base * 0.42 if light else base * 0.2 + 0.8 * 255], 1)
