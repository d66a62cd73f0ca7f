"""The content of a synthetic clip: actors, their attributes, their paths, the camera.

Lengths are in pixels, angles in radians (positive is clockwise on the screen, y points down),
points are (x, y) with (0, 0) the upper-left corner of the upper-left pixel, times are frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vseg_jax.input_pipeline.builders.moving_shapes.paths import Path, place, turns

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
SOUNDING = tuple(shape for shape in SHAPES if shape != MUTE)
TURN = 3  # frames in which one of two actors moves that take turns
_SLIDING = ("left", "right", "up", "down", "bouncing", "circling")  # visible even for a plain disc
_DISTRACTOR = 0.7  # how often a further actor copies an earlier one except for one attribute


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
class Scene:
    """The content of a clip.

    Attributes:
      appearances: of every actor; actor i has id i + 1 in the masks.
      paths: of every actor, as the camera sees it (drift included).
      order: actor numbers from the farthest to the nearest.
      drift: [2] motion of the background on the screen, pixels per frame.
      distractors: for every actor, another one that differs from it in one attribute; -1 for a
        bystander, which has none.
      silent: actors that make no tone when they move.
    """

    appearances: tuple[Appearance, ...]
    paths: tuple[Path, ...]
    order: tuple[int, ...]
    drift: np.ndarray
    distractors: tuple[int, ...]
    silent: tuple[int, ...] = ()

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
    length: int, drift: float, scale: float, progress: Sequence[np.ndarray | None] | None = None,
) -> tuple[tuple[Path, ...], np.ndarray]:
    """Returns the paths of all actors, and the drift of the camera; `progress` as for `place`."""
    side = min(height, width)
    heading, way = rng.uniform(0, 2 * np.pi), drift * side * np.sqrt(rng.uniform())
    step = np.array([np.cos(heading), np.sin(heading)]) * way / max(length - 1, 1)
    paths: list[Path] = []
    for one, share in zip(appearances, progress or [None] * len(appearances), strict=True):
        paths.append(place(rng, one.motion, one.size, paths, np.array([width, height]), length,
                           step, scale, share))
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
    sounding = dataclasses.replace(still, shape=_pick(rng, SOUNDING), size="large",
                                   motion=_pick(rng, _SLIDING))
    appearances = (still, sounding) if rng.uniform() < 0.5 else (sounding, still)
    paths, step = _place_all(rng, appearances, height, width, length, drift, scale)
    return Scene(appearances, paths, tuple(int(i) for i in rng.permutation(2)), step, (-1, -1))


def draw_taking_turns(rng: np.random.Generator, *, height: int, width: int, length: int,
                      drift: float, scale: float = 1.0) -> Scene:
    """Draws a clip of two actors that look alike and move in turns; one makes a tone when it does.

    The other one moves without a tone and is of the category `MUTE`. Which of the two has the
    category of the tone is revealed only by who moves while it sounds: neither by a single frame
    with its audio, nor by all frames without. There are no distractors. Arguments as for
    `draw_scene`.
    """
    silent = Appearance(color=_pick(rng, COLORS), shape=MUTE, size=_pick(rng, SIZES),
                        texture=_pick(rng, TEXTURES), motion=_pick(rng, _SLIDING))
    sounding = dataclasses.replace(silent, shape=_pick(rng, SOUNDING), motion=_pick(rng, _SLIDING))
    number = int(rng.integers(2))   # of the sounding one; the first one moves first
    appearances = (sounding, silent) if number == 0 else (silent, sounding)
    paths, step = _place_all(rng, appearances, height, width, length, drift, scale,
                             [turns(length, TURN, first) for first in (True, False)])
    order = tuple(int(i) for i in rng.permutation(2))
    return Scene(appearances, paths, order, step, (-1, -1), (1 - number,))


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
