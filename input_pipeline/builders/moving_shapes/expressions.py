"""Expressions that name exactly one actor of a scene.

An expression starts as a `Claim`: attributes and possibly a place relative to another actor, whose
uniqueness can be checked. Only then is it put into words. No word stands for two values of an
attribute, so a unique claim gives a unique expression.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from vseg_jax.input_pipeline.builders.moving_shapes.scene import ATTRIBUTES, Scene

T = TypeVar("T")

# Alternatives to the plain word. The first half of each (rounded down) is in varied expressions of
# the source domain; the others are only in the target domain, with the shift "lexicon".
SYNONYMS = {
    "red": ("crimson", "scarlet"), "orange": ("tangerine",), "yellow": ("golden", "lemon"),
    "green": ("emerald",), "cyan": ("turquoise", "aqua"), "blue": ("navy", "sapphire"),
    "purple": ("violet",), "pink": ("rosy",),
    "circle": ("disc", "ball"), "square": ("box", "block"), "triangle": ("wedge",),
    "star": ("five-pointed star",), "ring": ("hoop", "annulus"), "cross": ("plus sign",),
    "heart": ("heart shape",), "crescent": ("moon", "sickle"),
    "small": ("tiny", "little"), "large": ("big", "huge"),
    "plain": ("unpatterned", "solid"), "striped": ("stripy",), "dotted": ("spotted", "speckled"),
    "checkered": ("chequered", "chessboard"),
}
# (after a noun, after "that"); the first pair is the plain one. Split as SYNONYMS are.
MOTION_WORDS = {
    "left": (("moving left", "moves left"), ("heading leftwards", "heads leftwards"),
             ("sliding to the left", "slides to the left"), ("going left", "goes left")),
    "right": (("moving right", "moves right"), ("heading rightwards", "heads rightwards"),
              ("sliding to the right", "slides to the right"), ("going right", "goes right")),
    "up": (("moving up", "moves up"), ("rising", "rises"),
           ("climbing upwards", "climbs upwards"), ("going up", "goes up")),
    "down": (("moving down", "moves down"), ("sinking", "sinks"),
             ("falling slowly", "falls slowly"), ("going down", "goes down")),
    "still": (("standing still", "stands still"), ("staying put", "stays put"),
              ("resting", "rests"), ("not moving at all", "does not move at all")),
    "rotating": (("rotating", "rotates"), ("spinning on the spot", "spins on the spot"),
                 ("turning", "turns"), ("revolving", "revolves")),
    "growing": (("growing", "grows"), ("getting bigger", "gets bigger"), ("swelling", "swells"),
                ("expanding", "expands")),
    "shrinking": (("shrinking", "shrinks"), ("getting smaller", "gets smaller"),
                  ("dwindling", "dwindles"), ("contracting", "contracts")),
    "bouncing": (("bouncing", "bounces"), ("hopping", "hops"),
                 ("jumping up and down", "jumps up and down")),
    "circling": (("circling", "circles"), ("orbiting", "orbits"),
                 ("going round and round", "goes round and round"),
                 ("running in circles", "runs in circles")),
}
RELATIONS = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
_PLACED = 0.2  # share of the varied expressions that try to name a place
_SYNONYM = 0.3  # share of synonyms in varied expressions, where a word has one
_NEW_WORD = 0.5  # share of new words with the shift "lexicon", where a word has one
_CHANCE = {"color": 0.85, "motion": 0.85, "size": 0.2, "texture": 0.2}  # of unneeded words


@dataclasses.dataclass(frozen=True)
class Wording:
    """How claims are put into words; with all False, as in "the small red circle moving left".

    Attributes:
      varied: two templates, some synonyms, and places ("left of the blue ring").
      style: other templates and more places, with no word that varied expressions lack.
      lexicon: synonyms that varied expressions lack.
      often: share of the expressions that try to name a place with `style`.
    """

    varied: bool = False
    style: bool = False
    lexicon: bool = False
    often: float = 0.5

    @property
    def placed(self) -> float:
        """Share of the expressions that try to name a place."""
        return self.often if self.style else _PLACED * self.varied


@dataclasses.dataclass(frozen=True)
class Claim:
    """What an expression states: attributes, and possibly a relation to another actor."""

    attributes: tuple[str, ...]
    relation: str = ""
    reference: int = -1


def names_only(scene: Scene, actor: int, claim: Claim) -> bool:
    """Returns whether the claim holds for the actor and cannot be mistaken for another one.

    A reference is named by color and shape, which no other actor may share. Places are judged
    conservatively: the actor must clearly be there in every frame, any other one in hardly any.
    """
    if claim.relation:
        nouns = [(appearance.color, appearance.shape) for appearance in scene.appearances]
        if (claim.reference == actor or nouns.count(nouns[claim.reference]) > 1
                or not _beside(scene, actor, claim).all()):
            return False
    for other, appearance in enumerate(scene.appearances):
        if other in (actor, claim.reference):
            continue
        if any(a in claim.attributes for a in scene.appearances[actor].differs(appearance)):
            continue
        if not claim.relation or _beside(scene, other, claim, margin=0.0).mean() > 0.1:
            return False
    return True


def _beside(scene: Scene, actor: int, claim: Claim, margin: float = 0.6) -> np.ndarray:
    """Returns bool [T]: whether the actor is at the claimed place, by a margin in sums of radii."""
    one, two = scene.paths[actor], scene.paths[claim.reference]
    axis = 0 if claim.relation in ("left", "right") else 1
    sign = 1 if claim.relation in ("right", "below") else -1
    ahead = sign * (one.center[:, axis] - two.center[:, axis])
    return ahead > margin * (one.radius + two.radius)


def describe(rng: np.random.Generator, scene: Scene, actor: int, *, wording: Wording,
             references: Collection[int] = (), differs: Sequence[float] = (1.0,) * 5) -> str:
    """Returns an expression that always has the attribute in which the distractor differs.

    Args:
      rng: randomness.
      scene: the clip's content.
      actor: number of the actor.
      wording: how the claim is put into words.
      references: actors that a place may refer to ("left of the blue ring").
      differs: see `draw_scene`; an attribute of weight 0 is only used if nothing else is unique.
    """
    claim = _claim(rng, scene, actor, references if wording.placed else (), wording, differs)
    parts = _parts(rng, scene, actor, claim, wording)
    if wording.style:
        return _styled(rng, parts)
    return _template(parts, second=wording.varied and rng.uniform() < 0.5)


def _claim(rng: np.random.Generator, scene: Scene, actor: int, references: Collection[int],
           wording: Wording, differs: Sequence[float]) -> Claim:
    appearance = scene.appearances[actor]
    known = [a for a in ATTRIBUTES if getattr(appearance, a)]
    needed = {"shape", scene.differs_in(actor)} & set(known)
    if references and rng.uniform() < wording.placed:
        claims = [Claim(_ordered(needed), relation, reference)
                  for reference in references for relation in RELATIONS]
        claims = [claim for claim in claims if names_only(scene, actor, claim)]
        if claims:
            return claims[int(rng.integers(len(claims)))]
    chance = {a: _CHANCE.get(a, 0) if weight else 0
              for a, weight in zip(ATTRIBUTES, differs, strict=True)}
    extra = [a for a in known if a not in needed]
    chosen = needed | {a for a in extra if rng.uniform() < chance[a]}
    for attribute in rng.permutation(extra):
        if names_only(scene, actor, Claim(_ordered(chosen))):
            break
        chosen.add(str(attribute))
    return Claim(_ordered(chosen))


def _ordered(attributes: set[str]) -> tuple[str, ...]:
    return tuple(a for a in ATTRIBUTES if a in attributes)


class _Parts(NamedTuple):
    """The words of a claim: adjectives, noun, motion after the noun and after "that", place."""

    adjectives: list[str]
    noun: str
    doing: str
    does: str
    place: str


def _parts(rng: np.random.Generator, scene: Scene, actor: int, claim: Claim,
           wording: Wording) -> _Parts:
    appearance = scene.appearances[actor]

    def word(value: str) -> str:
        return _choice(rng, (value, *SYNONYMS[value]), wording)

    named = {a: word(getattr(appearance, a)) for a in claim.attributes if a != "motion"}
    doing, does = (_choice(rng, MOTION_WORDS[appearance.motion], wording)
                   if "motion" in claim.attributes else ("", ""))
    place = ""
    if claim.relation:
        reference = scene.appearances[claim.reference]
        place = f"{RELATIONS[claim.relation]} the {word(reference.color)} {word(reference.shape)}"
    adjectives = [named[a] for a in ("size", "texture", "color") if a in named]
    return _Parts(adjectives, named["shape"], doing, does, place)


def _template(parts: _Parts, second: bool) -> str:
    """Returns "the red circle moving left" or "it is a circle that is red and moves left"."""
    if not second:
        return _join("the", *parts.adjectives, parts.noun, parts.doing, parts.place)
    predicates = [*parts.adjectives, *filter(None, [parts.place])]
    said = ["that is " + " and ".join(predicates)] if predicates else []
    if parts.does:
        said.append(f"that {parts.does}")
    return _join("it is", _article(parts.noun), " and ".join(said))


def _styled(rng: np.random.Generator, parts: _Parts) -> str:
    """Returns the claim in another order than `_template`: adjectives last or first, place first.

    Except for the commas, it has no word that varied expressions lack.
    """
    noun, doing, place = parts.noun, parts.doing, parts.place
    adjectives = [parts.adjectives[i] for i in rng.permutation(len(parts.adjectives))]
    listed = " and ".join(adjectives)
    orders = [_join(place or "that", "is the", *adjectives, noun, doing)]
    if doing and not place:   # next to a place the motion would seem to belong to the other actor
        orders.append(_join(doing, "is the", *adjectives, noun))
    if adjectives:
        orders += [
            _join("it is", listed, ", the", noun, doing, place),
            _join("the", noun, doing, ", it is", listed, "and" if place else "", place),
            _join(listed, "and" if place else "", place, "is the", noun, doing),
        ]
    return orders[int(rng.integers(len(orders)))]


def _join(*parts: str) -> str:
    return " ".join(" ".join(parts).split()).replace(" ,", ",")


def _choice(rng: np.random.Generator, options: Sequence[T], wording: Wording) -> T:
    """Returns the plain option or one of the alternatives that the wording has."""
    half = 1 + (len(options) - 1) // 2
    known, new = options[1:half] if wording.varied else (), options[half:]
    if wording.lexicon and new and rng.uniform() < _NEW_WORD:
        return new[int(rng.integers(len(new)))]
    if known and rng.uniform() < _SYNONYM:
        return known[int(rng.integers(len(known)))]
    return options[0]


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
