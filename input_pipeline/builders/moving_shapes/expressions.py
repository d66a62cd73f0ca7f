"""Expressions that name exactly one actor of a scene.

An expression starts as a `Claim`: attributes and possibly a place relative to another actor, whose
uniqueness can be checked. Only then is it put into words. No word stands for two values of an
attribute, so a unique claim gives a unique expression.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np

from vseg_jax.input_pipeline.builders.moving_shapes.scene import ATTRIBUTES, Scene

T = TypeVar("T")

# Alternatives to the plain word, for free expressions.
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
# (after a noun, after "that"); the first pair is used in plain expressions.
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
_PLACED = 0.4  # share of the free expressions that try to name a place
_PLAIN_WORD = 0.5  # share of plain words in free expressions
_CHANCE = {"color": 0.85, "motion": 0.85, "size": 0.2, "texture": 0.2}  # of unneeded words


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


def describe(rng: np.random.Generator, scene: Scene, actor: int, *, free: bool,
             references: Collection[int] = ()) -> str:
    """Returns an expression that always has the attribute in which the distractor differs.

    Args:
      rng: randomness.
      scene: the clip's content.
      actor: number of the actor.
      free: uses varied words, word orders and relations; otherwise "the red circle moving left".
      references: actors that a free expression may refer to ("left of the blue ring").
    """
    claim = _claim(rng, scene, actor, references if free else ())
    return _free(rng, scene, actor, claim) if free else _plain(scene, actor, claim)


def _claim(rng: np.random.Generator, scene: Scene, actor: int,
           references: Collection[int]) -> Claim:
    appearance = scene.appearances[actor]
    known = [a for a in ATTRIBUTES if getattr(appearance, a)]
    needed = {"shape", scene.differs_in(actor)} & set(known)
    if references and rng.uniform() < _PLACED:
        claims = [Claim(_ordered(needed), relation, reference)
                  for reference in references for relation in RELATIONS]
        claims = [claim for claim in claims if names_only(scene, actor, claim)]
        if claims:
            return claims[int(rng.integers(len(claims)))]
    extra = [a for a in known if a not in needed]
    chosen = needed | {a for a in extra if rng.uniform() < _CHANCE.get(a, 0)}
    for attribute in rng.permutation(extra):
        if names_only(scene, actor, Claim(_ordered(chosen))):
            break
        chosen.add(str(attribute))
    return Claim(_ordered(chosen))


def _ordered(attributes: set[str]) -> tuple[str, ...]:
    return tuple(a for a in ATTRIBUTES if a in attributes)


def _plain(scene: Scene, actor: int, claim: Claim) -> str:
    appearance = scene.appearances[actor]
    words = [getattr(appearance, a) for a in ("size", "texture", "color", "shape")
             if a in claim.attributes]
    motion = [MOTION_WORDS[appearance.motion][0][0]] if "motion" in claim.attributes else []
    return " ".join(["the", *words, *motion])


def _free(rng: np.random.Generator, scene: Scene, actor: int, claim: Claim) -> str:
    """Returns the claim in one of several word orders, a relation after the noun or in front."""
    appearance = scene.appearances[actor]
    word = {a: _synonym(rng, getattr(appearance, a)) for a in claim.attributes if a != "motion"}
    before = [word[a] for a in ("size", "texture", "color") if a in word]
    if len(before) > 1 and rng.uniform() < 0.5:
        before = [before[i] for i in rng.permutation(len(before))]
    noun = " ".join([*before, word["shape"]])
    after = ""
    if len(before) > 1 and rng.uniform() < 0.3:  # "a disc, tiny and crimson,"
        noun, after = word["shape"], ", " + " and ".join(before) + ","
    place = ""
    if claim.relation:
        reference = scene.appearances[claim.reference]
        place = (f"{RELATIONS[claim.relation]} the {_synonym(rng, reference.color)} "
                 f"{_synonym(rng, reference.shape)}")
    if "motion" not in claim.attributes:
        orders = [f"{_article(noun)}{after} {place}", f"look for the {noun}{after} {place}",
                  f"{place}, the {noun}{after}"]
    else:
        doing, does = _choice(rng, MOTION_WORDS[appearance.motion])
        orders = [f"{_article(noun)}{after} {doing}, {place}",
                  f"look for {_article(noun)}{after} which {does}, {place}",
                  f"{place}, it is the {noun}{after} that {does}"]
        if not place:  # next to a place the motion would seem to belong to the other actor
            orders.append(f"{doing}, the {noun}{after}")
    text = orders[int(rng.integers(len(orders)))]
    return " ".join(text.replace(",,", ",").split()).strip(" ,")


def _synonym(rng: np.random.Generator, word: str) -> str:
    return _choice(rng, (word, *SYNONYMS[word]))


def _choice(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Returns the plain option often enough that a vocabulary of the source covers most words."""
    if rng.uniform() < _PLAIN_WORD:
        return options[0]
    return options[int(rng.integers(1, len(options)))]


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
