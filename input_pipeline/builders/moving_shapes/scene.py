"""The content of a synthetic clip: actors, their attributes, their paths, the camera.

Lengths are in pixels, angles in radians (positive is clockwise on the screen, y points down),
points are (x, y) with (0, 0) the upper-left corner of the upper-left pixel, times are frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "crescent")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted", "checkered")
MOTIONS = ("left", "right", "up", "down", "still", "rotating", "growing", "shrinking", "bouncing",
           "circling")
VALUES = {"color": COLORS, "shape": SHAPES, "size": SIZES, "texture": TEXTURES,
          "motion": MOTIONS}
ATTRIBUTES = tuple(VALUES)

MUTE = "circle"  # the shape in which look-alikes are drawn
_SLIDING = ("left", "right", "up", "down", "bouncing", "circling")  # visible even for a plain disc
_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_RADII = {"small": 0.1, "large": 0.165}  # of the frame's smaller side; bounds of a size change
_DISTRACTOR = 0.7  # how often a further actor copies an earlier one except for one attribute
_CANDIDATES = 24  # paths tried at a time for one actor
_CROSSING = 0.25  # share of the frames in which two actors may overlap


@dataclasses.dataclass(frozen=True)
class Appearance:
    """The attributes that expressions name.

    `size` is "" if the motion is a change of size: such an actor is neither small nor large.
    """

    color: str
    shape: str
    size: str
    texture: str
    motion: str

    def differs(self, other: Appearance) -> list[str]:
        """Returns the attributes that differ (a changing size counts as motion only)."""
        names = [a for a in ATTRIBUTES if getattr(self, a) != getattr(other, a)]
        if not (self.size and other.size) and "size" in names:
            names.remove("size")
        return names

    def can_be_seen(self) -> bool:
        """Returns False if an attribute is not visible, as for a plain disc that rotates."""
        round_and_plain = self.shape in ("circle", "ring") and self.texture == "plain"
        changes_size = self.motion in ("growing", "shrinking")
        return not (self.motion == "rotating" and round_and_plain) and changes_size != bool(
            self.size)


@dataclasses.dataclass(frozen=True)
class Path:
    """Where an actor is in every frame: center [T, 2], angle [T], radius [T]."""

    center: np.ndarray
    angle: np.ndarray
    radius: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scene:
    """The content of a clip.

    Attributes:
      appearances: of every actor; actor i has id i + 1 in the masks.
      paths: of every actor, as the camera sees it (drift included).
      order: actor numbers from the farthest to the nearest.
      drift: [2] motion of the background on the screen, pixels per frame.
      distractors: for every actor, another one that differs from it in one attribute; -1 for a
        bystander, which has none.
    """

    appearances: tuple[Appearance, ...]
    paths: tuple[Path, ...]
    order: tuple[int, ...]
    drift: np.ndarray
    distractors: tuple[int, ...]

    def differs_in(self, actor: int) -> str:
        """Returns the attribute in which an actor's distractor differs, "" for a bystander."""
        distractor = self.distractors[actor]
        if distractor < 0:
            return ""
        return self.appearances[actor].differs(self.appearances[distractor])[0]


def draw_scene(rng: np.random.Generator, *, height: int, width: int, length: int,
               actors: tuple[int, int], differs: tuple[float, ...], drift: float,
               scale: float = 1.0) -> Scene:
    """Draws the content of a clip.

    Args:
      rng: randomness; the same generator state gives the same scene.
      height: of the frames.
      width: of the frames.
      length: frames.
      actors: smallest and largest number of actors.
      differs: a weight for each of `ATTRIBUTES`: how often a distractor differs in it.
      drift: longest path of the camera over the clip, in units of the frame's smaller side.
      scale: factor on all radii.
    """
    count = int(rng.integers(actors[0], actors[1] + 1))
    appearances, distractors = _draw_appearances(rng, count, differs)
    paths, step = _place_all(rng, appearances, height, width, length, drift, scale)
    order = tuple(int(i) for i in rng.permutation(len(appearances)))
    return Scene(tuple(appearances), paths, order, step, tuple(distractors))


def _place_all(
    rng: np.random.Generator, appearances: Sequence[Appearance], height: int, width: int,
    length: int, drift: float, scale: float,
) -> tuple[tuple[Path, ...], np.ndarray]:
    """Returns the paths of all actors, and the drift of the camera."""
    side = min(height, width)
    heading, way = rng.uniform(0, 2 * np.pi), drift * side * np.sqrt(rng.uniform())
    step = np.array([np.cos(heading), np.sin(heading)]) * way / max(length - 1, 1)
    paths: list[Path] = []
    for one in appearances:
        paths.append(_place(rng, one, paths, np.array([width, height]), length, step, scale))
    return tuple(paths), step


def draw_look_alikes(rng: np.random.Generator, *, height: int, width: int, length: int,
                     drift: float, scale: float = 1.0) -> Scene:
    """Draws a clip of two actors that look alike, one of which moves and so makes a tone.

    The other one is still, silent, and of the category that both look like, `MUTE`. The moving one
    is larger, so that a single frame shows which of the two it is; only its tone reveals which of
    the other categories it has. There are no distractors. Arguments as for `draw_scene`.
    """
    still = Appearance(color=_pick(rng, COLORS), shape=MUTE, size="small",
                  texture=_pick(rng, TEXTURES), motion="still")
    sounding = dataclasses.replace(still, shape=_pick(rng, [s for s in SHAPES if s != MUTE]),
                                   size="large", motion=_pick(rng, _SLIDING))
    appearances = (still, sounding) if rng.uniform() < 0.5 else (sounding, still)
    paths, step = _place_all(rng, appearances, height, width, length, drift, scale)
    return Scene(appearances, paths, tuple(int(i) for i in rng.permutation(2)), step, (-1, -1))


def _draw_appearances(rng: np.random.Generator, count: int,
                differs: tuple[float, ...]) -> tuple[list[Appearance], list[int]]:
    """Draws a pair of distractors, then further distractors and bystanders, all different.

    Returns:
      The appearances and the distractors of the actors, in random order.
    """
    while True:
        appearances = [_random_appearance(rng)]
        pairs: list[tuple[int, int]] = []
        for _ in range(100):
            if len(appearances) == count:
                return _shuffled(rng, appearances, pairs)
            first = int(rng.integers(len(appearances)))
            copies = len(appearances) == 1 or rng.uniform() < _DISTRACTOR
            new = (_distractor(rng, appearances[first], differs) if copies
                   else _random_appearance(rng))
            if new.can_be_seen() and all(new.differs(other) for other in appearances):
                appearances.append(new)
                if copies:
                    pairs += [(first, len(appearances) - 1), (len(appearances) - 1, first)]


def _shuffled(rng: np.random.Generator, appearances: list[Appearance],
              pairs: list[tuple[int, int]]) -> tuple[list[Appearance], list[int]]:
    """Returns actors in random order, each with one of its distractors (-1: it has none)."""
    place = rng.permutation(len(appearances))
    shuffled, distractors = list(appearances), [-1] * len(appearances)
    for i, one in enumerate(appearances):
        shuffled[place[i]] = one
        mine = [b for a, b in pairs if a == i]
        if mine:
            distractors[place[i]] = int(place[mine[int(rng.integers(len(mine)))]])
    return shuffled, distractors


def _random_appearance(rng: np.random.Generator) -> Appearance:
    while True:
        appearance = Appearance(**{name: _pick(rng, values) for name, values in VALUES.items()})
        if appearance.motion in ("growing", "shrinking"):
            appearance = dataclasses.replace(appearance, size="")
        if appearance.can_be_seen():
            return appearance


def _distractor(
    rng: np.random.Generator, appearance: Appearance, differs: tuple[float, ...]
) -> Appearance:
    weights = np.asarray(differs, float)
    name = str(rng.choice(ATTRIBUTES, p=weights / weights.sum()))
    old = getattr(appearance, name)
    if not old:  # the size of an actor that grows cannot differ: the caller tries again
        return appearance
    new = _pick(rng, [value for value in VALUES[name] if value != old])
    distractor = dataclasses.replace(appearance, **{name: new})
    if distractor.motion in ("growing", "shrinking"):
        return dataclasses.replace(distractor, size="")
    if distractor.size:
        return distractor
    return dataclasses.replace(distractor, size=_pick(rng, SIZES))


def _pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    return values[int(rng.integers(len(values)))]


def _place(
    rng: np.random.Generator, appearance: Appearance, others: list[Path], frame: np.ndarray,
    length: int, step: np.ndarray, scale: float,
) -> Path:
    """Returns a path inside the frame that may cross the others but does not stay on them."""
    shape = _motion(rng, appearance, float(min(frame)), length, scale)
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


def _motion(rng: np.random.Generator, appearance: Appearance, side: float, length: int,
            scale: float) -> Path:
    """Returns the path around the origin, without the camera's drift."""
    phase = np.linspace(0.0, 1.0, length)
    center = np.zeros((length, 2))
    angle = np.full(length, rng.uniform(-0.3, 0.3))
    jitter = scale * side * rng.uniform(0.94, 1.06)
    radius = np.full(length, _RADII.get(appearance.size, 0.0) * jitter)
    turn, sign, start = rng.uniform(), rng.choice([-1.0, 1.0]), rng.uniform()
    if appearance.motion in _DIRECTIONS:
        way = side * (0.42 + 0.16 * turn)
        center = np.outer(phase - 0.5, _DIRECTIONS[appearance.motion]) * way
    elif appearance.motion == "rotating":
        angle = angle + sign * 2 * np.pi * (0.55 + 0.25 * turn) * phase
    elif appearance.motion in ("growing", "shrinking"):
        p = phase if appearance.motion == "growing" else 1 - phase
        small, large = 0.85 * _RADII["small"], 1.1 * _RADII["large"]
        radius = jitter * small * (large / small) ** p
    elif appearance.motion == "bouncing":
        hop = np.abs(np.sin(np.pi * (3 * phase + start)))
        center[:, 1] = -side * (0.24 + 0.06 * turn) * (hop - 0.5)
    elif appearance.motion == "circling":
        around = 2 * np.pi * (sign * (1.1 + 0.25 * turn) * phase + start)
        center = side * (0.13 + 0.03 * turn) * np.stack([np.cos(around), np.sin(around)], -1)
    return Path(center, angle, radius)
