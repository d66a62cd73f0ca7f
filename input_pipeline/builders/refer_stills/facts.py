"""What is true of the objects of a clip, and which claims are true of exactly one of them.

A claim is checked twice, with a margin on either side: it must clearly hold for the object that it
names, and must not even possibly hold for any other one. What lies between is not claimed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vseg_jax.input_pipeline.builders.refer_stills.colors import Colors
from vseg_jax.input_pipeline.builders.refer_stills.nouns import nouns, possible_nouns

ATTRIBUTES = ("color", "size", "place", "motion")
PLACES = ("left", "right", "middle")
RELATIONS = ("left of", "right of")
MOTIONS = ("left", "right", "closer", "away", "still", "moving")

# Lengths are shares of the frame's width. The first of a pair is the limit of a clear case, the
# second that of a possible one.
LARGER = (2.2, 1.4)          # smallest ratio of the areas of a large and a small object
SIDE = (0.42, 0.52)          # farthest that an object on the left is from the left border
MIDDLE = (0.1, 0.2)          # farthest from the vertical center line
BESIDE = (0.15, 0.0)         # smallest distance between an object and one that it is left of
WAY = (0.12, 0.04)           # shortest path of an object that moves
REST = (0.01, 0.06)          # longest path of an object that does not move
SEEN_REST = 0.12             # and the longest on the screen, where the camera moves
SLANTED = 0.5                # largest share of the vertical path in the horizontal one
GROWTH = (1.5, 1.12)         # smallest change in size of an object that comes closer
SAME_SIZE = (1.03, 1.12)     # largest change in size of an object that does not move


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is true of an object over a clip of T frames.

    Attributes:
      category: as the source names it.
      colors: measured from its pixels.
      area: [T] pixels of the whole object, also those outside the frame and behind other objects.
      visible: [T] pixels of it that can be seen.
      center: [T, 2] (x, y) of the middle of its part inside the frame; pixels over width, height.
      way: [2] (x, y) from its first to its last place, relative to the background.
      seen_way: [2] the same on the screen.
      growth: its size in the last frame over that in the first.
    """

    category: str
    colors: Colors
    area: np.ndarray
    visible: np.ndarray
    center: np.ndarray
    way: np.ndarray
    seen_way: np.ndarray
    growth: float

    @property
    def change(self) -> float:
        """The factor by which its size changes, at least 1."""
        return max(self.growth, 1 / self.growth)


@dataclasses.dataclass(frozen=True)
class Claim:
    """What an expression states of an object; "" is no statement.

    Attributes:
      noun: it can be called so.
      color: a color word.
      size: "small" or "large", compared with the other objects of that noun.
      place: one of `PLACES`, in every frame.
      motion: one of `MOTIONS`.
      relation: one of `RELATIONS`, in every frame, to the object `reference`.
      reference: number of another object; -1 without a relation.
      reference_noun: the noun that names this other object.
    """

    noun: str = ""
    color: str = ""
    size: str = ""
    place: str = ""
    motion: str = ""
    relation: str = ""
    reference: int = -1
    reference_noun: str = ""


def names_only(facts: Sequence[Facts], number: int, claim: Claim) -> bool:
    """Returns whether a claim clearly holds for one object and possibly for no other one."""
    if claim.relation and not _names_reference(facts, number, claim):
        return False
    others = (other for other in range(len(facts)) if other != number)
    return (_holds(facts, number, claim, clear=True)
            and not any(_holds(facts, other, claim, clear=False) for other in others))


def statements(facts: Sequence[Facts], number: int, noun: str) -> list[tuple[str, str]]:
    """Returns the attributes and values that clearly hold for an object called `noun`."""
    one = facts[number]
    found = [("color", color) for color in sorted(one.colors.clear)]
    found += [("size", size) for size in ("small", "large")
              if _has_size(facts, number, noun, size, clear=True)]
    found += [("place", place) for place in PLACES if _is_at(one, place, clear=True)]
    found += [("motion", motion) for motion in MOTIONS if _moves(one, motion, clear=True)]
    return found


def needed(facts: Sequence[Facts], number: int, claim: Claim) -> list[str]:
    """Returns the parts of a claim without which it would not name the object only."""
    parts = {"category": {"noun": ""}, **{name: {name: ""} for name in ATTRIBUTES}}
    if claim.relation:
        parts["place"] = {"relation": "", "reference": -1, "reference_noun": ""}
    changed = {name: dataclasses.replace(claim, **change) for name, change in parts.items()}
    return [name for name, less in changed.items()
            if less != claim and not names_only(facts, number, less)]


def _names_reference(facts: Sequence[Facts], number: int, claim: Claim) -> bool:
    """Returns whether the reference's noun names it only, and not the object itself."""
    named = [k for k, one in enumerate(facts)
             if claim.reference_noun in possible_nouns(one.category)]
    return named == [claim.reference] and claim.reference != number


def _holds(facts: Sequence[Facts], number: int, claim: Claim, clear: bool) -> bool:
    one = facts[number]
    colors = one.colors.clear if clear else one.colors.possible
    called = (nouns if clear else possible_nouns)(one.category)
    return (
        (not claim.noun or claim.noun in called)
        and (not claim.color or claim.color in colors)
        and (not claim.size or _has_size(facts, number, claim.noun, claim.size, clear))
        and (not claim.place or _is_at(one, claim.place, clear))
        and (not claim.motion or _moves(one, claim.motion, clear))
        and (not claim.relation
             or _is_beside(one, facts[claim.reference], claim.relation, clear))
    )


def _has_size(facts: Sequence[Facts], number: int, noun: str, size: str, clear: bool) -> bool:
    """Compares an object with the others that may be called `noun` ("": with all).

    It is clearly small if all others are much larger, and possibly if one of them is. Areas are
    compared with and without what other objects hide.
    """
    others = [one for k, one in enumerate(facts)
              if k != number and (not noun or noun in possible_nouns(one.category))]
    ratios = []
    for other in others:
        pairs = zip((other.area, other.visible), (facts[number].area, facts[number].visible),
                    strict=True)
        each = [theirs.mean() / max(own.mean(), 1.0) for theirs, own in pairs]
        each = each if size == "small" else [1 / max(ratio, 1e-9) for ratio in each]
        ratios.append(min(each) if clear else max(each))
    larger = [ratio >= LARGER[0 if clear else 1] for ratio in ratios]
    return bool(larger) and (all(larger) if clear else any(larger))


def _is_at(one: Facts, place: str, clear: bool) -> bool:
    x = one.center[:, 0]
    if place == "middle":
        inside = np.abs(x - 0.5) <= MIDDLE[0 if clear else 1]
    else:
        inside = (x if place == "left" else 1 - x) <= SIDE[0 if clear else 1]
    return bool(inside.all() if clear else inside.any())


def _is_beside(one: Facts, reference: Facts, relation: str, clear: bool) -> bool:
    ahead = reference.center[:, 0] - one.center[:, 0]
    beside = (ahead if relation == "left of" else -ahead) > BESIDE[0 if clear else 1]
    return bool(beside.all() if clear else beside.any())


def _moves(one: Facts, motion: str, clear: bool) -> bool:
    limit = 0 if clear else 1
    length = float(np.hypot(*one.way))
    if motion == "still":
        seen = float(np.hypot(*one.seen_way))
        return (length <= REST[limit] and one.change <= SAME_SIZE[limit]
                and not (clear and seen > SEEN_REST))
    if motion == "moving":
        return length >= WAY[limit] or one.change >= GROWTH[limit]
    if motion in ("closer", "away"):
        growth = one.growth if motion == "closer" else 1 / one.growth
        return growth >= GROWTH[limit] and not (clear and length > WAY[0])
    sign = 1 if motion == "right" else -1
    ways = [sign * float(way[0]) for way in (one.way, one.seen_way)]
    if not clear:
        return max(ways) >= WAY[1]
    straight = abs(float(one.way[1])) <= SLANTED * abs(float(one.way[0]))
    return min(ways) >= WAY[0] and straight and one.change < GROWTH[0]
