"""`refer_stills`: clips with objects and referring expressions, made from stills with categories.

Objects are cut out of stills and move over the picture of another still, whose own objects stay in
it or are painted over. Expressions name one of the objects by its category, color, size, place or
motion. What they say is computed from the pixels and paths of the clip, and is true of exactly one
object. The source is a folder in the layout of `stills`, with `categories.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import stills
from vseg_jax.input_pipeline.builders.refer_stills import scene
from vseg_jax.input_pipeline.builders.refer_stills.expressions import STYLES, describe
from vseg_jax.input_pipeline.builders.refer_stills.facts import ATTRIBUTES, Facts
from vseg_jax.input_pipeline.builders.refer_stills.stock import (
    REMOVABLE,
    Still,
    background,
    cut_out,
    divide,
    read_files,
    read_stock,
)
from vseg_jax.input_pipeline.unread import Unread, fingerprint
from vseg_jax.input_pipeline.video_builder import VideoBuilder, lists_to_tuples

SPLITS = ("train", "test")
_QUALITY = 92
_ATTEMPTS = 50   # scenes drawn for a clip before it fails
_NAMED = 2       # objects of a clip that have an expression at least
_SMALLEST = 0.004  # share of the frame that a named object covers at least, in every frame
_VISIBLE = (0.3, 0.6)  # share of it that can be seen at least, in every frame and on average


@dataclasses.dataclass(frozen=True)
class Options:
    """What to build.

    Attributes:
      height: of the frames, pixels, at least 32.
      width: of the frames, pixels, at least 32.
      length: frames per clip; a motion spans the whole clip.
      fps: frames per second.
      train: clips of the split train.
      test: clips of the split test, made from other stills.
      held_out: share of the stills that only test uses.
      seed: clip i of a split depends only on the stills, seed, split, i and the options below, so a
        larger build starts with the clips of a smaller one. It also draws the held-out stills.
      sets: the stills that are used, as in the dataset `stills`.
      backgrounds: in the same form, the stills whose pictures are backgrounds; () takes all. An
        object in a background that has no mask can make an expression ambiguous, so name the sets
        in which all objects have one.
      objects: smallest and largest number of objects in a clip, within 2 to 8, or 1 to 8 without
        expressions. Those that stay in a background count, but at least one is pasted.
      keep: share of the clips whose background keeps its own objects. In the others they are
        painted over, if they cover at most 30 % of the picture.
      unpasted: share of the clips that show a background with its own objects, in any number, and
        nothing that is pasted; `keep` is a share of the others. A model that only sees pasted
        objects may learn to find their edges.
      renamed: categories that get another name, "car=vehicle"; several may get the same.
      same: how often an object gets the category of an earlier one.
      even: how often the category of any other pasted object is drawn first, all equally often.
      size: range of the longer side of a pasted object, in units of the frame's smaller side.
      moving: share of the pasted objects that move relative to the background.
      enter: share of the moving objects that enter the frame from outside or leave it.
      covered: share of the smaller object's box that two objects may have in common, on average; a
        place where they do is sought for each object.
      drift: longest path of the camera over a clip, in units of the frame's smaller side.
      attributes: what expressions may say besides the category, any of `ATTRIBUTES`.
      styles: of the expressions, any of `STYLES`; a named object gets one of each. () makes clips
        without expressions, in which no object needs to be told from the others.
    """

    height: int = 192
    width: int = 320
    length: int = 8
    fps: float = 8.0
    train: int = 2000
    test: int = 100
    held_out: float = 0.1
    seed: int = 0
    sets: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    objects: tuple[int, int] = (2, 4)
    keep: float = 0.5
    unpasted: float = 0.0
    renamed: tuple[str, ...] = ()
    same: float = 0.6
    even: float = 0.0
    size: tuple[float, float] = (0.35, 0.85)
    moving: float = 0.6
    enter: float = 0.0
    covered: float = 0.3
    drift: float = 0.15
    attributes: tuple[str, ...] = ATTRIBUTES
    styles: tuple[str, ...] = STYLES

    def __post_init__(self):
        lists_to_tuples(self)
        _check(min(self.height, self.width) >= 32 and self.length >= 2 and self.fps > 0,
               "frames must be at least 32x32, a clip 2 frames long and fps above 0",
               (self.height, self.width, self.length, self.fps))
        _check(min(self.train, self.test) >= 1, "every split needs a clip",
               (self.train, self.test))
        _check(0 < self.held_out < 1, "held_out must lie between 0 and 1", self.held_out)
        least = _NAMED if self.styles else 1
        _check(len(self.objects) == 2 and least <= self.objects[0] <= self.objects[1] <= 8,
               f"objects must be (least, greatest) within {least} to 8", self.objects)
        _check(len(self.size) == 2 and 0 < self.size[0] <= self.size[1] <= 2,
               "size must be (least, greatest) within 0 to 2", self.size)
        for name, most in (("keep", 1), ("unpasted", 1), ("same", 1), ("even", 1), ("moving", 1),
                           ("enter", 1), ("covered", 1), ("drift", 0.5)):
            _check(0 <= getattr(self, name) <= most, f"{name} must lie within 0 to {most}",
                   getattr(self, name))
        for name, known in (("attributes", ATTRIBUTES), ("styles", STYLES)):
            _check(set(getattr(self, name)) <= set(known),
                   f"{name} must be some of {', '.join(known)}", getattr(self, name))
        _check(all(all(pair.partition("=")[::2]) for pair in self.renamed),
               "renamed must be pairs such as car=vehicle", self.renamed)

    @property
    def names(self) -> dict[str, str]:
        """The new names of categories."""
        return dict(pair.partition("=")[::2] for pair in self.renamed)


class Builder(VideoBuilder):
    """Builds `refer_stills`; `options` is an `Options`."""

    name = "refer_stills"

    def splits(self) -> dict[str, list[Unread]]:
        """Returns the records of every split; see `VideoBuilder.splits`."""
        options = self.options or Options()
        stock = read_stock(self.source, options.sets, options.names)
        parts = divide(stock, options.held_out, options.seed)
        return {split: self._clips(Generator(options, split, parts[split]),
                                   fingerprint(parts[split], self.source)) for split in SPLITS}

    def categories(self) -> list[records.Category]:
        """Returns the categories of all objects, numbered from 1 in alphabetical order."""
        options = self.options or Options()
        categories = read_files(self.source, options.sets, options.names)[1]
        names = sorted({name for found in categories.values() for name in found.values()})
        return [records.Category(k, name) for k, name in enumerate(names, 1)]

    @staticmethod
    def _clips(generator: Generator, stock: str) -> list[Unread]:
        options, split = generator.options, generator.split
        return [Unread(generator.record, number, depends_on=(options, split, stock, number))
                for number in range(options.train if split == "train" else options.test)]


def verify(source: Path, options: Options) -> list[str]:
    """Returns the problems of a folder of stills, which needs categories; see `stills.verify`."""
    problems = stills.verify(source, stills.Options(sets=options.sets))
    if not problems:
        try:
            read_files(source, options.sets, options.names)
        except ValueError as error:
            problems.append(str(error))
    return problems


class Generator:
    """Makes the clips of one split.

    Args:
      options: what to build.
      split: one of `SPLITS`.
      stock: its stills.

    Raises:
      ValueError: no still can be a background.
    """

    def __init__(self, options: Options, split: str, stock: Sequence[Still]):
        self.options = options
        self.split = split
        self._objects = [(still, i) for still in stock for i in still.whole]
        self._of: dict[str, list[tuple[Still, int]]] = {}
        for still, i in self._objects:
            self._of.setdefault(still.categories[i], []).append((still, i))
        chosen = [s for s in stock if s.name.startswith(options.backgrounds or ("",))]
        self._backgrounds = {
            True: [s for s in chosen if s.categories],
            False: [s for s in chosen if s.covered <= REMOVABLE]}
        pasted = 1 - options.unpasted
        for keep, share in ((True, options.unpasted + pasted * options.keep),
                            (False, pasted * (1 - options.keep))):
            if share > 0 and not self._backgrounds[keep]:
                what = ("has objects that could stay" if keep else
                        f"has objects that cover at most {REMOVABLE:.0%} of it")
                raise ValueError(
                    f"of the {len(chosen)} stills that may be backgrounds of {split}, none {what}; "
                    f"set the option keep={0 if keep else 1}, or give more stills")

    def clip(self, number: int) -> tuple[scene.Clip, list[records.Expression]]:
        """Returns a clip and its expressions.

        Content and wording draw from separate random streams. A scene in which fewer than two
        objects can be named, or without expressions none is shown, is drawn again.

        Raises:
          ValueError: no scene out of many attempts will do.
        """
        root = np.random.SeedSequence((self.options.seed, SPLITS.index(self.split), number))
        content, words = (np.random.default_rng(s) for s in root.spawn(2))
        for _ in range(_ATTEMPTS):
            clip = self._draw(content)
            if not self.options.styles:
                if clip.facts:
                    return clip, []
                continue
            expressions = self._expressions(words, clip.facts, clip.masks[0].size)
            if len({e.object_id for e in expressions}) >= _NAMED:
                return clip, expressions
        raise ValueError(
            f"refer_stills: {self.split} clip {number}: none of {_ATTEMPTS} scenes has {_NAMED} "
            "objects that can be named; use fewer or smaller objects, more attributes, or a "
            "smaller 'same'")

    def record(self, number: int) -> records.Record:
        """Returns a clip as a record."""
        clip, expressions = self.clip(number)
        height, width = clip.masks.shape[1:]
        return records.Record(
            video_id=f"{self.split}-{number:06d}",
            frames=[records.encode_image(frame, _QUALITY) for frame in clip.frames],
            masks=[records.encode_mask(mask) for mask in clip.masks],
            height=height, width=width, fps=self.options.fps,
            objects=[records.Object(k, one.category) for k, one in enumerate(clip.facts, 1)],
            expressions=expressions,
        )

    def _draw(self, rng: np.random.Generator) -> scene.Clip:
        options, size = self.options, (self.options.height, self.options.width)
        unpasted = _happens(rng, options.unpasted)
        keep = unpasted or rng.uniform() < options.keep
        pictures = self._backgrounds[keep]
        behind = background(pictures[int(rng.integers(len(pictures)))], keep)
        camera = scene.draw_camera(rng, size, options.length, options.drift)
        scenery = scene.place_background(rng, behind, camera, size)
        boxes = scene.boxes_of(scenery)
        categories = [behind.categories[i] for i in scenery.kept]
        count = int(rng.integers(options.objects[0], options.objects[1], endpoint=True))
        pasted = []
        for _ in range(0 if unpasted else max(1, count - len(categories))):
            still, object_id = self._pick(rng, categories)
            cutout = cut_out(still, object_id)
            moves = rng.uniform() < options.moving
            path = scene.draw_path(
                rng, cutout, camera, size, options.size, moves, boxes, options.covered,
                enters=moves and _happens(rng, options.enter))
            pasted.append((cutout, path))
            boxes.append(scene.box_of(cutout, path))
            categories.append(cutout.category)
        return scene.compose(scenery, pasted)

    def _pick(self, rng: np.random.Generator, categories: Sequence[str]) -> tuple[Still, int]:
        """Draws an object, often one of the category of an earlier one."""
        among = self._objects
        if categories and rng.uniform() < self.options.same:
            among = self._of.get(categories[int(rng.integers(len(categories)))], among)
        elif _happens(rng, self.options.even):
            among = self._of[sorted(self._of)[int(rng.integers(len(self._of)))]]
        return among[int(rng.integers(len(among)))]

    def _expressions(self, rng: np.random.Generator, facts: Sequence[Facts],
                     pixels: int) -> list[records.Expression]:
        visible = [k for k, one in enumerate(facts) if _is_visible(one, pixels)]
        found = [describe(rng, facts, k, style, self.options.attributes, visible)
                 for k in visible for style in self.options.styles]
        return [expression for expression in found if expression is not None]


def _is_visible(one: Facts, pixels: int) -> bool:
    """Returns whether an object of a clip can be seen well enough to be named."""
    share = one.visible / np.maximum(one.area, 1)
    return bool((one.visible >= _SMALLEST * pixels).all() and share.min() >= _VISIBLE[0]
                and share.mean() >= _VISIBLE[1])


def _happens(rng: np.random.Generator, share: float) -> bool:
    """Draws whether something happens; draws nothing for a share of 0, as before the option."""
    return share > 0 and bool(rng.uniform() < share)


def _check(good: bool, wanted: str, value: object) -> None:
    if not good:
        raise ValueError(f"refer_stills: {wanted}, got {value}")
