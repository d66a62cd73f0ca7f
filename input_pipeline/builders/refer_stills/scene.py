"""A clip: cut-out objects that move over a background, which a camera pans across.

Lengths are in pixels of the clip, points are (x, y) with (0, 0) the upper-left corner of the
upper-left pixel, and y points down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.builders.refer_stills.facts import Facts
from vseg_jax.input_pipeline.builders.refer_stills.stock import Background, Cutout
from vseg_jax.input_pipeline.transforms import scaling, translation, warp_frame, warp_mask

KINDS = ("left", "right", "closer", "away")  # of moving objects
_PATH = (0.2, 0.5)     # of an object that moves sideways, share of the frame's width
_SLOPE = 0.06          # most that it moves up or down, share of the width
_GROWTH = (1.6, 2.2)   # of an object that comes closer
_SWAY = np.deg2rad(4)  # of an object that moves
_ENLARGED = 1.5        # most by which a cut-out object is enlarged
_STARTS = 12           # places that are tried for an object
_OPAQUE = 128          # opacity from which a pixel belongs to a pasted object
_INSIDE = 0.9          # share of an object's box that stays inside the frame


@dataclasses.dataclass(frozen=True)
class Path:
    """Where an object is in each frame, on the screen.

    Attributes:
      center: [T, 2] of its box.
      scale: [T] of the cut-out object; its sign tells whether it is mirrored.
      angle: [T] in radians, clockwise.
      way: [2] from its first to its last place, relative to the background.
    """

    center: np.ndarray
    scale: np.ndarray
    angle: np.ndarray
    way: np.ndarray


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip and what is true of it.

    Attributes:
      frames: uint8 [T, H, W, 3].
      masks: uint8 [T, H, W]; object k of `facts` has the id k + 1.
      facts: of every object that a frame shows.
    """

    frames: np.ndarray
    masks: np.ndarray
    facts: tuple[Facts, ...]


def draw_camera(rng: np.random.Generator, size: tuple[int, int], length: int,
                drift: float) -> np.ndarray:
    """Returns how far the background has moved on the screen in each frame, [T, 2].

    Args:
      rng: randomness.
      size: (height, width) of the clip.
      length: frames.
      drift: longest path over the clip, in units of the smaller side.
    """
    heading, way = rng.uniform(0, 2 * np.pi), drift * min(size) * np.sqrt(rng.uniform())
    whole = way * np.array([np.cos(heading), np.sin(heading)])
    return np.linspace(0, 1, length)[:, None] * whole


@dataclasses.dataclass(frozen=True)
class Scenery:
    """A background in the frames of a clip.

    Attributes:
      frames: uint8 [T, H, W, 3].
      masks: index masks [T, H, W] of the objects that stay in it.
      camera: see `draw_camera`.
      background: the picture.
      scale: from pixels of the picture to pixels of the frames.
    """

    frames: np.ndarray
    masks: np.ndarray
    camera: np.ndarray
    background: Background
    scale: float

    @property
    def kept(self) -> list[int]:
        """The ids of its objects that a frame shows."""
        return [i for i in self.background.categories if (self.masks == i).any()]


def place_background(rng: np.random.Generator, background: Background, camera: np.ndarray,
                     size: tuple[int, int]) -> Scenery:
    """Places a picture so that it covers all frames of `size` (height, width)."""
    height, width = background.mask.shape
    span = np.abs(camera[-1])
    scale = max((size[1] + span[0]) / width, (size[0] + span[1]) / height)
    room = scale * np.array([width, height]) - np.array(size[::-1]) - span
    corner = -rng.uniform(0, np.maximum(room, 0)) - np.maximum(camera[-1], 0)
    frames, masks = [], []
    for moved in camera:
        x, y = corner + moved
        matrix = translation(y, x) @ scaling(scale, scale)
        frames.append(warp_frame(background.rgb, matrix, size))
        masks.append(warp_mask(background.mask, matrix, size))
    return Scenery(np.stack(frames), np.stack(masks), camera, background, scale)


def draw_path(
    rng: np.random.Generator, cutout: Cutout, camera: np.ndarray, size: tuple[int, int],
    longer: tuple[float, float], moves: bool, boxes: Sequence[np.ndarray], covered: float,
    *, enters: bool = False,
) -> Path:
    """Draws a path inside the frame that does not cover others too much, if there is one.

    Args:
      rng: randomness.
      cutout: the object.
      camera: see `draw_camera`.
      size: (height, width) of the clip.
      longer: range of the longer side of the object, in units of the frame's smaller side.
      moves: whether it moves relative to the background.
      boxes: [T, 4] (left, top, right, bottom) of each other object.
      covered: share of the smaller box that it may have in common with another, on average.
      enters: whether it moves sideways and is outside the frame at the beginning or at the end.
    """
    length, frame = len(camera), np.array(size[::-1], float)
    phase = np.linspace(0, 1, length)
    kind = KINDS[int(rng.integers(2 if enters else len(KINDS)))] if moves else "still"
    extent = np.array(cutout.rgba.shape[1::-1], float)
    scale = min(rng.uniform(*longer) * min(size) / extent.max(), _ENLARGED)
    growth = rng.uniform(*_GROWTH) if kind in ("closer", "away") else 1.0
    scales = scale * growth ** ((phase - 0.5) * (-1 if kind == "away" else 1))
    way = np.zeros(2)
    if kind in ("left", "right"):
        way = frame[0] * np.array([rng.uniform(*_PATH) * (-1 if kind == "left" else 1),
                                   rng.uniform(-_SLOPE, _SLOPE)])
    track = camera + phase[:, None] * way
    half = _INSIDE * scales[:, None] * extent / 2
    low, high = (half - track).max(axis=0), (frame - half - track).min(axis=0)
    middle = (low + high) / 2   # a path longer than the frame extends beyond both ends
    starts = rng.uniform(np.minimum(low, middle), np.maximum(high, middle), (_STARTS, 2))
    if enters:
        at = -1 if rng.uniform() < 0.5 else 0   # it is outside in the last frame, or in the first
        on_left = (way[0] > 0) == (at == 0)
        beyond = scales[at] * extent[0] / 2
        starts[:, 0] = (-beyond if on_left else frame[0] + beyond) - track[at, 0]
    tried = [np.hstack([start + track - half, start + track + half]) for start in starts]
    cost = [max((_shared(box, other) for other in boxes), default=0.0) for box in tried]
    best = next((k for k, c in enumerate(cost) if c <= covered), int(np.argmin(cost)))
    sway = _SWAY * np.sin(2 * np.pi * (phase * rng.uniform(1, 2) + rng.uniform())) * bool(moves)
    mirrored = -1 if rng.uniform() < 0.5 else 1
    return Path(starts[best] + track, mirrored * scales, sway, way)


def compose(scenery: Scenery, pasted: Sequence[tuple[Cutout, Path]]) -> Clip:
    """Puts cut-out objects with their paths over a background, the first one the farthest away."""
    masks, camera = scenery.masks, scenery.camera
    frames, size = scenery.frames.copy(), masks.shape[1:]
    index = np.where(masks == VOID, VOID, 0).astype(np.uint8)
    whole: list[np.ndarray] = []   # bool [T, H, W] of each object, as if it were alone
    facts: list[Facts] = []

    def add(alone: np.ndarray) -> None:
        whole.append(alone)
        index[alone] = len(whole)

    for object_id in scenery.kept:
        add(masks == object_id)
    for cutout, path in pasted:
        layers = np.stack([_layer(cutout, path, t, size) for t in range(len(frames))])
        opacity = layers[..., 3:].astype(np.float32) / 255
        frames = np.rint(frames * (1 - opacity) + layers[..., :3]).clip(0, 255).astype(np.uint8)
        add(layers[..., 3] >= _OPAQUE)
    visible = [(index == k).sum(axis=(1, 2)) for k in range(1, len(whole) + 1)]
    shown = zip(visible, map(_centers, whole), strict=True)
    picture = scenery.background
    for object_id in scenery.kept:
        area = np.full(len(frames), (picture.mask == object_id).sum() * scenery.scale**2)
        facts.append(Facts(picture.categories[object_id], picture.colors[object_id], area,
                           *next(shown), np.zeros(2), camera[-1] / size[1], 1.0))
    for cutout, path in pasted:
        area = (cutout.rgba[..., 3] >= _OPAQUE).sum() * path.scale**2
        facts.append(Facts(cutout.category, cutout.colors, area, *next(shown),
                           path.way / size[1], (path.way + camera[-1]) / size[1],
                           abs(float(path.scale[-1] / path.scale[0]))))
    return Clip(frames, index, tuple(facts))


def boxes_of(scenery: Scenery) -> list[np.ndarray]:
    """Returns [T, 4] (left, top, right, bottom) of each object of a background that is shown."""
    return [np.stack([_box(alone) for alone in scenery.masks == i]) for i in scenery.kept]


def box_of(cutout: Cutout, path: Path) -> np.ndarray:
    """Returns [T, 4] (left, top, right, bottom) of a pasted object, without its sway."""
    half = np.abs(path.scale)[:, None] * np.array(cutout.rgba.shape[1::-1]) / 2
    return np.concatenate([path.center - half, path.center + half], axis=1)


def _layer(cutout: Cutout, path: Path, t: int, size: tuple[int, ...]) -> np.ndarray:
    """Returns a pasted object in one frame, uint8 [H, W, 4]."""
    height, width = cutout.rgba.shape[:2]
    cos, sin = np.cos(path.angle[t]), np.sin(path.angle[t])
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    x, y = path.center[t]
    matrix = (translation(y, x) @ turn @ scaling(abs(path.scale[t]), path.scale[t])
              @ translation(-height / 2, -width / 2))
    return warp_frame(cutout.rgba, matrix, (size[0], size[1]), border=0)


def _box(alone: np.ndarray) -> tuple[int, int, int, int]:
    """Returns the box of a mask; an empty one if it has no pixel."""
    rows, columns = np.flatnonzero(alone.any(axis=1)), np.flatnonzero(alone.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _shared(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the share of the smaller box that two boxes [T, 4] have in common, on average."""
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    areas = [np.prod(box[:, 2:] - box[:, :2], axis=1) for box in (one, other)]
    common = np.prod(np.maximum(sides, 0), axis=1)
    return float((common / np.maximum(np.minimum(*areas), 1)).mean())


def _centers(whole: np.ndarray) -> np.ndarray:
    """Returns the middle of an object's box in each frame, [T, 2], over width and height.

    Where a frame does not show it, the place is that of the nearest earlier frame that does, or
    else of the first one.
    """
    boxes = np.array([_box(alone) for alone in whole], float)
    shown = np.flatnonzero(whole.any(axis=(1, 2)))
    nearest = np.maximum(np.searchsorted(shown, np.arange(len(whole)), side="right") - 1, 0)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.array(whole.shape[:0:-1])
    return middle[shown[nearest]]
