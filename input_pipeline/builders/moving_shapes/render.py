"""Draws a scene: frames, index masks and the flow of what can be seen.

A shape is a table of signed distances in units of its radius, a texture a table of signed
distances to its pattern. One affine warp a frame brings both to the screen, and a distance there
gives the mask (its sign at the pixel's center) and the soft edge (half a pixel to either side).
"""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np

from vseg_jax.input_pipeline.builders.moving_shapes.scene import Appearance, Path, Scene

Box = tuple[slice, slice]  # rows and columns of a frame

RGB = {
    "red": (222, 45, 48), "orange": (247, 131, 28), "yellow": (252, 211, 38),
    "green": (52, 168, 76), "cyan": (52, 205, 224), "blue": (38, 92, 226),
    "purple": (130, 58, 182), "pink": (246, 134, 190),
}
_TABLE = 160  # samples along a side of a table
_REACH = 1.45  # a table covers [-_REACH, _REACH]^2 radii
_SHADOW = 0.35  # reach of the soft shadow, in radii


@dataclasses.dataclass(frozen=True)
class Style:
    """How a clip looks, apart from its content; see `draw_style`.

    Attributes:
      canvas: float32 [H + 2m, W + 2m, 3], what the camera sees of the background as it drifts.
      margin: m.
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


@dataclasses.dataclass(frozen=True)
class Rendering:
    """frames uint8 [T, H, W, 3] RGB; masks uint8 [T, H, W]; flow float32 [T-1, H, W, 2] (u, v)."""

    frames: np.ndarray
    masks: np.ndarray
    flow: np.ndarray


def render(scene: Scene, style: Style, rng: np.random.Generator) -> Rendering:
    """Draws all frames of a scene; `rng` draws the noise alone."""
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
            box = _box(path.center[t], _REACH * path.radius[t], (height, width))
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
    """[T, 3, 3]: a shape's own coordinates (unit radius) to the screen, in every frame."""
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


def _paint(frame: np.ndarray, box: Box, to_shape: np.ndarray, radius: float, appearance: Appearance,
           shadow: tuple[float, float, float]) -> np.ndarray:
    """Paints one actor over frame [H, W, 3] in place; bool over the box: pixels that it covers."""
    table = _warp(_table(appearance.shape, appearance.texture), to_shape, *box)
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
    """[H, W] to [H, W, 3]; numpy's own broadcasting over three channels is five times slower."""
    return cv2.merge((plane, plane, plane))


def _flow(flow: np.ndarray, box: Box, inside: np.ndarray, move: np.ndarray) -> None:
    """Writes the way of one actor's visible points into flow [H, W, 2]."""
    rows, columns = box
    x = np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5)
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + np.float32(0.5)
    (a, b, c), (d, e, f) = move[:2].tolist()
    np.copyto(flow[box][..., 0], (a - 1) * x + (b * y + c), where=inside)
    np.copyto(flow[box][..., 1], d * x + ((e - 1) * y + f), where=inside)


def _shade(frame, distance, rows: slice, columns: slice, shadow, radius: float) -> None:
    """A soft shadow on whatever lies behind the actor, moved by whole pixels."""
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


def _box(center: np.ndarray, reach: float, shape) -> Box | None:
    left, top = np.floor(center - reach).astype(int)
    right, bottom = np.ceil(center + reach).astype(int)
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, shape[0]), min(
        right, shape[1])
    return None if top >= bottom or left >= right else (slice(top, bottom), slice(left, right))


def _warp(table: np.ndarray, to_shape: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The table's values at the centers of the pixels of a box."""
    per_unit = (_TABLE - 1) / (2 * _REACH)
    matrix = to_shape[:2] * per_unit
    matrix[:, 2] += _REACH * per_unit
    matrix[:, 2] += matrix[:, :2] @ [columns.start + 0.5, rows.start + 0.5]
    size = (columns.stop - columns.start, rows.stop - rows.start)
    return cv2.warpAffine(table, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REPLICATE)


@functools.cache
def _colors(color: str) -> np.ndarray:
    """float32 [3, 2]: a color and that of its pattern, light on dark colors, dark on light."""
    base = np.array(RGB[color], np.float32)
    light = base @ np.array([0.299, 0.587, 0.114], np.float32) > 150
    return np.stack([base, base * 0.42 if light else base * 0.2 + 0.8 * 255], 1)


# --- shapes and textures as signed distances ---------------------------------------------------


@functools.cache
def _table(shape: str, texture: str) -> np.ndarray:
    """float32 [_TABLE, _TABLE, 2]: distance to the shape's edge and to the texture's pattern."""
    axis = np.linspace(-_REACH, _REACH, _TABLE)
    points = np.stack(np.meshgrid(axis, axis), -1)
    return np.stack([shape_distance(shape, points), _pattern(texture, points)], -1).astype(
        np.float32)


def shape_distance(shape: str, points: np.ndarray) -> np.ndarray:
    """Signed distance, negative inside, of points [..., 2] to a shape of radius 1.

    In units of the radius; x right, y down.
    """
    r = np.linalg.norm(points, axis=-1)
    if shape == "circle":
        return r - 0.95
    if shape == "ring":
        return np.abs(r - 0.73) - 0.25
    return _polygon_distance(_corners(shape), points)


def _corners(shape: str) -> np.ndarray:
    """Corners [n, 2] of a shape of radius about 1."""
    if shape == "square":
        return 0.84 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    if shape == "triangle":
        turn = 2 * np.pi * np.arange(3) / 3
        return 1.15 * np.stack([np.sin(turn), -np.cos(turn) + 0.15], -1)
    if shape == "star":
        turn = 2 * np.pi * np.arange(10) / 10
        far = np.where(np.arange(10) % 2, 0.52, 1.15)
        return far[:, None] * np.stack([np.sin(turn), -np.cos(turn)], -1)
    if shape == "cross":
        a, b = 0.34, 1.0
        quarter = np.array([[-a, -b], [a, -b], [a, -a]])
        turns = [np.linalg.matrix_power([[0, 1], [-1, 0]], n) for n in range(4)]
        return np.concatenate([quarter @ turn for turn in turns])
    if shape == "crescent":  # a disc out of which another of radius 0.74 is bitten, 0.5 away
        bite, away = 0.74, 0.5
        outer = np.arccos((1 - bite**2 + away**2) / (2 * away))
        inner = np.arccos((1 - bite**2 - away**2) / (2 * away * bite))
        out, back = np.linspace(outer, 2 * np.pi - outer, 48), np.linspace(
            2 * np.pi - inner, inner, 32)[1:-1]
        arcs = np.concatenate([np.stack([np.cos(out), np.sin(out)], -1), np.stack(
            [bite * np.cos(back) + away, bite * np.sin(back)], -1)])
        c, s = np.cos(-0.25), np.sin(-0.25)
        return arcs @ np.array([[c, s], [-s, c]])
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)  # heart
    x = 16 * np.sin(turn) ** 3
    y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
    return np.stack([x, y - 1.5], -1) / 16


def _polygon_distance(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    nearest = np.full(points.shape[:-1], np.inf)
    inside = np.zeros(points.shape[:-1], bool)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge, rest = b - a, points - a
        along = np.clip(rest @ edge / (edge @ edge), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(rest - along[..., None] * edge, axis=-1))
        if a[1] != b[1]:
            spans = (a[1] > points[..., 1]) != (b[1] > points[..., 1])
            crossing = a[0] + (points[..., 1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
            inside ^= spans & (points[..., 0] < crossing)
    return np.where(inside, -nearest, nearest)


def _pattern(texture: str, points: np.ndarray) -> np.ndarray:
    """Signed distance, negative inside, to what a texture paints in the second color."""
    x, y = points[..., 0], points[..., 1]
    if texture == "striped":
        period = 0.62
        u = (x + y) / np.sqrt(2)
        return np.abs((u + 0.25 * period) % period - period / 2) - period / 4
    if texture == "dotted":
        period = 0.64
        u, v = ((c + 0.5 * period) % period - period / 2 for c in (x + 0.1, y))
        return np.hypot(u, v) - 0.19
    if texture == "checkered":
        period = 1.0
        u, v = (np.abs((c + 0.25 * period) % period - period / 2) - period / 4 for c in (x, y))
        return np.where(u * v > 0, 1, -1) * np.minimum(np.abs(u), np.abs(v))
    return np.ones_like(x)


# --- styles of the two domains -----------------------------------------------------------------


def draw_style(rng: np.random.Generator, height: int, width: int, drift: float,
               shifts: tuple[str, ...]) -> Style:
    """Draws background, light and camera of a clip.

    Args:
      rng: randomness; every part draws from a stream of its own, so that switching one shift
        leaves the others as they are.
      height: of the frames.
      width: of the frames.
      drift: way of the camera in pixels over the whole clip.
      shifts: of "background", "light", "noise" those which look as in the target domain.
    """
    back, light, camera = rng.spawn(3)
    margin = int(np.ceil(drift)) + 2
    size = (height + 2 * margin, width + 2 * margin)
    canvas = (_clutter if "background" in shifts else _soft)(back, *size)
    if "light" in shifts:
        gain = _side_light(light, height, width)
        heading = light.uniform(0, 2 * np.pi)
        shadow = (0.45 * np.cos(heading), 0.45 * np.sin(heading), 0.5)
    else:
        gain = np.ones((height, width, 3), np.float32)
        shadow = (0.12, 0.3, 0.28)
    noisy = "noise" in shifts
    return Style(canvas, margin, gain, shadow,
                 noise=camera.uniform(3, 9) if noisy else 0.0,
                 blur=camera.uniform(0.35, 0.65) * min(height, width) / 64 if noisy else 0.0)


def _field(rng: np.random.Generator, cells: int, height: int, width: int, channels: int = 1):
    """Smooth random field [H, W, channels], about [-1, 1], `cells` bumps along a side."""
    coarse = rng.uniform(-1, 1, (cells + 2, cells + 2, channels)).astype(np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return fine.reshape(height, width, channels)


def _soft(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Two pale colors that run into each other."""
    first, second = rng.uniform(196, 246, (2, 3)).astype(np.float32)
    mix = 0.5 + 0.5 * np.clip(_field(rng, 1, height, width), -1, 1)
    return first + mix * (second - first) + 5 * _field(rng, 3, height, width)


def _clutter(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Muted patches, strips and grain at several scales."""
    side = min(height, width)
    ground = rng.uniform(70, 170, 3) + 28 * _field(rng, 3, height, width, 3)
    canvas = np.clip(ground, 0, 255).astype(np.uint8)  # OpenCV draws soft edges in 8 bits only
    for _ in range(int(rng.integers(14, 22))):
        gray = rng.uniform(45, 195)
        color = tuple(float(c) for c in gray + rng.uniform(-26, 26, 3))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        angle = rng.uniform(0, 180)
        long, short = side * rng.uniform(0.15, 0.7), side * rng.uniform(0.03, 0.16)
        box = cv2.boxPoints(((x, y), (long, short), angle))
        cv2.fillConvexPoly(canvas, np.rint(box * 16).astype(np.int32), color, cv2.LINE_AA, 4)
    grain = 13 * _field(rng, side // 6, height, width) + 9 * _field(rng, side // 3, height, width)
    return np.clip(canvas + grain, 0, 255)


def _side_light(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Light from one side, of some color."""
    heading = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = (np.cos(heading) * x + np.sin(heading) * y) * rng.uniform(0.1, 0.3)
    cast = 1 + rng.uniform(-0.13, 0.13, 3)
    return ((rng.uniform(0.7, 1.05) + slope)[..., None] * cast).astype(np.float32)
