"""`moving_shapes`: synthetic videos with exact ground truth, deterministic given a seed.

A clip has two to five actors. Every actor that an expression names has a distractor that differs
from it in a single attribute, so that color, shape or a still frame alone does not identify it. The
two domains, `source` and `target`, share categories and motions and differ in everything else (see
`Options.shifts`). Masks, flow and audio are computed from the same paths that are drawn. Nothing is
downloaded.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders.moving_shapes.audio import mix
from vseg_jax.input_pipeline.builders.moving_shapes.expressions import Wording, describe
from vseg_jax.input_pipeline.builders.moving_shapes.render import Rendering, render
from vseg_jax.input_pipeline.builders.moving_shapes.scene import (
    ATTRIBUTES,
    MUTE,
    SHAPES,
    Scene,
    draw_look_alikes,
    draw_scene,
    draw_taking_turns,
)
from vseg_jax.input_pipeline.builders.moving_shapes.style import BACKGROUNDS, draw_style
from vseg_jax.input_pipeline.unread import Unread
from vseg_jax.input_pipeline.video_builder import VideoBuilder, lists_to_tuples

SPLITS = ("source_train", "source_test", "target_train", "target_test")
SHIFTS = ("background", "light", "noise", "size", "style", "lexicon", "crowd")
LOOK_ALIKES = ("", "category", "which")
# Small frames are stored losslessly, because JPEG halves the resolution of color. In large frames
# this is not visible, and PNGs of noise are big.
_JPEG_FROM = 128  # pixels of the smaller side
_QUALITY = 95
_ATTEMPTS = 50  # scenes drawn for a clip before it fails


@dataclasses.dataclass(frozen=True)
class Options:
    """What to build.

    Attributes:
      height: of the frames, pixels, at least 32.
      width: of the frames, pixels, at least 32.
      length: frames per clip; a motion spans the whole clip.
      fps: frames per second, which determines the length of the audio.
      train: clips in each train split.
      test: clips in each test split.
      seed: clip i of a split depends only on seed, split, i and the options below, so a larger
        build starts with the clips of a smaller one.
      splits: which of `SPLITS` to build.
      actors: smallest and largest number of actors in a clip, within 2 to 8.
      differs: how often distractors differ in color, shape, size, texture, motion (weights).
      drift: longest path of the camera over a clip, in units of the frame's smaller side; 0: none.
      scale: factor on the size of all actors, within 0.5 to 2.
      shifts: how the target domain differs from the source, any of `SHIFTS`: "background", "light",
        "noise", "size" of the actors, "style" of the expressions (other word orders, more places),
        "lexicon" (synonyms that the source lacks), "crowd" (more actors). Except for "crowd", the
        content of a clip does not depend on them.
      backgrounds: kinds of background in the source domain, any of `BACKGROUNDS`.
      new_backgrounds: kinds of background in the target domain, with the shift "background".
      crowd: smallest and largest number of actors with the shift "crowd", within 2 to 8.
      light: strength of the shift "light", within 0 to 2.
      placed: share of the expressions that try to name a place with the shift "style".
      varied: whether expressions have varied templates and words in both domains, see `Wording`.
      flow: whether optical flow is written.
      audio: whether audio is written.
      look_alikes: what only the audio reveals, in another kind of clip, for models that use audio:
        two actors that look alike, both drawn as circles, one of which is a circle. There are no
        expressions. "": not this kind. "category": the circle is small and does not move; the large
        one moves, and its tone reveals its category. "which": both are of one size and move in
        turns; one of them makes the tone of its category when it moves, the other one is the
        circle.
    """

    height: int = 64
    width: int = 64
    length: int = 16
    fps: float = 8.0
    train: int = 800
    test: int = 100
    seed: int = 0
    splits: tuple[str, ...] = SPLITS
    actors: tuple[int, int] = (2, 5)
    differs: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    drift: float = 0.1
    scale: float = 1.0
    shifts: tuple[str, ...] = SHIFTS[:-1]
    backgrounds: tuple[str, ...] = ("pale",)
    new_backgrounds: tuple[str, ...] = ("clutter",)
    crowd: tuple[int, int] = (4, 5)
    light: float = 1.0
    placed: float = 0.5
    varied: bool = False
    flow: bool = True
    audio: bool = True
    look_alikes: Literal["", "category", "which"] = ""

    def __post_init__(self):
        lists_to_tuples(self)
        for name, known in (("splits", SPLITS), ("shifts", SHIFTS), ("backgrounds", BACKGROUNDS),
                            ("new_backgrounds", BACKGROUNDS)):
            if unknown := set(getattr(self, name)) - set(known):
                raise ValueError(f"moving_shapes: {name} {sorted(unknown)} are unknown; "
                                 f"choose from {', '.join(known)}")
        if min(self.height, self.width) < 32 or self.length < 1 or self.fps <= 0:
            raise ValueError(
                "moving_shapes: frames must be at least 32x32, a clip 1 frame long and fps above "
                f"0, got {self.height}x{self.width}, {self.length} frames, {self.fps} fps")
        if min(self.train, self.test) < 1 or not self.splits:
            raise ValueError("moving_shapes: every split needs a clip, got "
                             f"train={self.train}, test={self.test}, splits={self.splits}")
        for name in ("actors", "crowd"):
            count = getattr(self, name)
            if len(count) != 2 or not 2 <= count[0] <= count[1] <= 8:
                raise ValueError(f"moving_shapes: {name} must be (least, greatest) within 2 to 8, "
                                 f"got {count}")
        if not self.backgrounds or not self.new_backgrounds:
            raise ValueError("moving_shapes: backgrounds and new_backgrounds need a kind each; "
                             f"choose from {', '.join(BACKGROUNDS)}")
        for name, most in (("light", 2), ("placed", 1)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"moving_shapes: {name} must lie within 0 to {most}, got "
                                 f"{getattr(self, name)}")
        if (len(self.differs) != len(ATTRIBUTES) or min(self.differs) < 0
                or sum(self.differs) <= 0):
            raise ValueError(f"moving_shapes: differs must be {len(ATTRIBUTES)} weights, for "
                             f"{', '.join(ATTRIBUTES)}, not all 0, got {self.differs}")
        if not 0 <= self.drift <= 0.3:
            raise ValueError(f"moving_shapes: drift must lie within 0 to 0.3, got {self.drift}")
        if self.look_alikes not in LOOK_ALIKES:
            raise ValueError(f"moving_shapes: look_alikes must be one of {LOOK_ALIKES}, got "
                             f"{self.look_alikes!r}")
        if self.look_alikes and not self.audio:
            raise ValueError("moving_shapes: only audio tells look_alikes apart; keep audio=True")
        if not 0.5 <= self.scale <= 2:
            raise ValueError(f"moving_shapes: scale must lie within 0.5 to 2, got {self.scale}")


class Builder(VideoBuilder):
    """Builds `moving_shapes`; needs no source folder."""

    name = "moving_shapes"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        options = self.options or Options()
        return {split: self._clips(split, options) for split in options.splits}

    def categories(self) -> list[records.Category]:
        """Returns the shapes, numbered from 1."""
        return [records.Category(k, name) for k, name in enumerate(SHAPES, 1)]

    @staticmethod
    def _clips(split: str, options: Options) -> list[Unread]:
        count = options.train if split.endswith("train") else options.test
        return [Unread(make_record, options, split, i) for i in range(count)]


def make_clip(options: Options, split: str, number: int) -> tuple[Scene, Rendering, list[int]]:
    """Returns the content and the pictures of one clip, and the actors that can be seen well.

    Content, style, noise and wording draw from separate random streams. A scene in which fewer than
    two actors can be named is drawn again.

    Raises:
      ValueError: no scene out of many attempts shows two actors well.
    """
    shifts = options.shifts if split.startswith("target") else ()
    content, styling, noise, _ = _streams(options, split, number)
    height, width = options.height, options.width
    scale = options.scale * (_size_factor(styling.spawn(1)[0]) if "size" in shifts else 1.0)
    kinds = options.new_backgrounds if "background" in shifts else options.backgrounds
    style = draw_style(styling, height, width, options.drift * min(height, width), shifts, kinds,
                       options.light)
    actors = options.crowd if "crowd" in shifts else options.actors
    for _ in range(_ATTEMPTS):
        where = dict(height=height, width=width, length=options.length, drift=options.drift,
                     scale=scale)
        if options.look_alikes:
            draw = draw_look_alikes if options.look_alikes == "category" else draw_taking_turns
            scene = draw(content, **where)
            rendering = render(_disguised(scene), style, noise)
        else:
            scene = draw_scene(content, actors=actors, differs=options.differs, **where)
            rendering = render(scene, style, noise)
        visible = _visible(scene, rendering.masks)
        if len(visible if options.look_alikes else nameable(scene, visible)) >= 2:
            return scene, rendering, visible
    raise ValueError(f"moving_shapes: {split} clip {number}: none of {_ATTEMPTS} scenes shows two "
                     f"actors well; use fewer actors than {actors[1]} or less drift")


def make_record(options: Options, split: str, number: int) -> records.Record:
    """Returns one clip of a split as a record."""
    scene, rendering, visible = make_clip(options, split, number)
    shifts = options.shifts if split.startswith("target") else ()
    wording = Wording(options.varied, "style" in shifts, "lexicon" in shifts, options.placed)
    words = _streams(options, split, number)[3]
    style = "free" if wording.style or wording.lexicon else "plain"
    quality = _QUALITY if min(options.height, options.width) >= _JPEG_FROM else None
    flow = [records.encode_flow(f) for f in rendering.flow] + [b""] if options.flow else []
    return records.Record(
        video_id=f"{split}-{number:06d}",
        frames=[records.encode_image(frame, quality) for frame in rendering.frames],
        masks=[records.encode_mask(mask) for mask in rendering.masks],
        height=options.height, width=options.width, fps=options.fps,
        objects=[records.Object(i, one.shape) for i, one in enumerate(scene.appearances, 1)],
        expressions=[
            records.Expression(
                describe(words, scene, i, wording=wording, references=visible,
                         differs=options.differs),
                i + 1, style, scene.differs_in(i))
            for i in nameable(scene, visible)
        ],
        flow=flow,
        audio=records.encode_audio(mix(scene, options.fps)) if options.audio else b"",
    )


def _disguised(scene: Scene) -> Scene:
    """Returns the scene as look-alikes are drawn: all in the same shape."""
    alike = (dataclasses.replace(one, shape=MUTE) for one in scene.appearances)
    return dataclasses.replace(scene, appearances=tuple(alike))


def _streams(options: Options, split: str, number: int) -> list[np.random.Generator]:
    """Returns generators for content, style, noise and wording."""
    root = np.random.SeedSequence((options.seed, SPLITS.index(split), number))
    return [np.random.default_rng(s) for s in root.spawn(4)]


def _size_factor(rng: np.random.Generator) -> float:
    """Returns the factor by which all actors of a target clip are smaller or larger."""
    return rng.uniform(0.8, 0.88) if rng.uniform() < 0.5 else rng.uniform(1.12, 1.25)


def nameable(scene: Scene, visible: list[int]) -> list[int]:
    """Returns the actors that can be seen together with their distractors."""
    return [i for i in visible if scene.distractors[i] in visible]


def _visible(scene: Scene, masks: np.ndarray) -> list[int]:
    """Returns the actors that can be seen well in at least three quarters of the frames."""
    visible = []
    for i, path in enumerate(scene.paths):
        pixels = (masks == i + 1).sum(axis=(1, 2))
        if (pixels >= np.maximum(10, 0.3 * path.radius**2)).mean() >= 0.75:
            visible.append(i)
    return visible
