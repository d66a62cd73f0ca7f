"""Sentences that name one actor of a scene and no other.

A sentence is first a `Claim` (attributes, perhaps a place beside another actor), for which
uniqueness can be checked; only then is it put into words. No word stands for two values of an
attribute, so what is unique as a claim is unique in words.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from input_pipeline.builders.moving_shapes.scene import ATTRIBUTES, Scene

PLAIN_MOTIONS = {
    "left": "moving left", "right": "moving right", "up": "moving up", "down": "moving down",
    "still": "standing still", "rotating": "rotating", "growing": "growing",
    "shrinking": "shrinking", "bouncing": "bouncing", "circling": "circling",
}
# Other words for the free sentences; the plain word is always one of the choices.
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
# (after a noun, after "that")
FREE_MOTIONS = {
    "left": (("heading leftwards", "heads leftwards"),
             ("sliding to the left", "slides to the left"),
             ("going left", "goes left")),
    "right": (("heading rightwards", "heads rightwards"),
              ("sliding to the right", "slides to the right"), ("going right", "goes right")),
    "up": (("rising", "rises"), ("climbing upwards", "climbs upwards"), ("going up", "goes up")),
    "down": (("sinking", "sinks"), ("falling slowly", "falls slowly"),
             ("going down", "goes down")),
    "still": (("staying put", "stays put"), ("resting", "rests"),
              ("not moving at all", "does not move at all")),
    "rotating": (("spinning on the spot", "spins on the spot"), ("turning", "turns"),
                 ("revolving", "revolves")),
    "growing": (("getting bigger", "gets bigger"), ("swelling", "swells"),
                ("expanding", "expands")),
    "shrinking": (("getting smaller", "gets smaller"), ("dwindling", "dwindles"),
                  ("contracting", "contracts")),
    "bouncing": (("hopping", "hops"), ("jumping up and down", "jumps up and down")),
    "circling": (("orbiting", "orbits"), ("going round and round", "goes round and round"),
                 ("running in circles", "runs in circles")),
}
RELATIONS = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
_CHANCE = {"colour": 0.85, "motion": 0.85, "size": 0.2, "texture": 0.2}  # of a word not needed


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a sentence says: the attributes it speaks of, perhaps a relation to another actor."""

    attributes: tuple[str, ...]
    relation: str = ""
    reference: int = -1


def names_only(scene: Scene, actor: int, claim: Claim) -> bool:
    """True if the claim holds for the actor and could be taken to hold for no other.

    A reference is named by colour and shape, which must be its own alone. Places are judged
    cautiously: the actor must stand clearly there in every frame, any other in hardly any.
    """
    if claim.relation:
        nouns = [(looks.colour, looks.shape) for looks in scene.looks]
        if nouns.count(nouns[claim.reference]) > 1 or not _beside(scene, actor, claim).all():
            return False
    for other, looks in enumerate(scene.looks):
        if other == actor or (claim.relation and other == claim.reference):
            continue
        if any(a in claim.attributes for a in scene.looks[actor].differs(looks)):
            continue
        if not claim.relation or _beside(scene, other, claim, margin=0.0).mean() > 0.1:
            return False
    if claim.relation:  # the reference must not answer to the sentence about the place beside it
        return claim.reference != actor
    return True


def _beside(scene: Scene, actor: int, claim: Claim, margin: float = 0.6) -> np.ndarray:
    """bool [T]: does the actor stand there, by a margin in sums of radii?"""
    one, two = scene.paths[actor], scene.paths[claim.reference]
    axis = 0 if claim.relation in ("left", "right") else 1
    sign = 1 if claim.relation in ("right", "below") else -1
    ahead = sign * (one.centre[:, axis] - two.centre[:, axis])
    return ahead > margin * (one.radius + two.radius)


def describe(rng: np.random.Generator, scene: Scene, actor: int, free: bool) -> str:
    """A sentence for the actor, always with the attribute that tells it from its twin.

    Args:
      rng: randomness.
      scene: the clip's content.
      actor: which actor.
      free: other words and word orders, relations; otherwise "the red circle moving left".
    """
    claim = _claim(rng, scene, actor, free)
    return _free(rng, scene, actor, claim) if free else _plain(scene, actor, claim)


def _claim(rng: np.random.Generator, scene: Scene, actor: int, free: bool) -> Claim:
    looks = scene.looks[actor]
    known = [a for a in ATTRIBUTES if getattr(looks, a)]
    needed = {"shape", scene.differs[actor]} & set(known)
    if free and rng.uniform() < 0.4:
        found = [
            claim for reference in range(len(scene.looks)) for relation in RELATIONS
            if reference != actor and names_only(
                scene, actor, claim := Claim(_ordered(needed), relation, reference))
        ]
        if found:
            return found[int(rng.integers(len(found)))]
    extra = [a for a in known if a not in needed]
    said = needed | {a for a in extra if rng.uniform() < _CHANCE.get(a, 0)}
    for attribute in rng.permutation(extra):
        if names_only(scene, actor, Claim(_ordered(said))):
            break
        said.add(str(attribute))
    return Claim(_ordered(said))


def _ordered(attributes: set[str]) -> tuple[str, ...]:
    return tuple(a for a in ATTRIBUTES if a in attributes)


def _plain(scene: Scene, actor: int, claim: Claim) -> str:
    looks = scene.looks[actor]
    words = [getattr(looks, a) for a in ("size", "texture", "colour", "shape")
             if a in claim.attributes]
    motion = [PLAIN_MOTIONS[looks.motion]] if "motion" in claim.attributes else []
    return " ".join(["the", *words, *motion])


def _free(rng: np.random.Generator, scene: Scene, actor: int, claim: Claim) -> str:
    """One of several word orders; a relation comes after the noun or at the front."""
    looks = scene.looks[actor]
    word = {a: _synonym(rng, getattr(looks, a)) for a in claim.attributes if a != "motion"}
    before = [word[a] for a in ("size", "texture", "colour") if a in word]
    if len(before) > 1 and rng.uniform() < 0.5:
        before = [before[i] for i in rng.permutation(len(before))]
    noun = " ".join([*before, word["shape"]])
    after = ""
    if len(before) > 1 and rng.uniform() < 0.3:  # "a disc, tiny and crimson,"
        noun, after = word["shape"], ", " + " and ".join(before) + ","
    place = ""
    if claim.relation:
        reference = scene.looks[claim.reference]
        place = (f"{RELATIONS[claim.relation]} the {_synonym(rng, reference.colour)} "
                 f"{_synonym(rng, reference.shape)}")
    if "motion" not in claim.attributes:
        orders = [f"{_article(noun)}{after} {place}", f"look for the {noun}{after} {place}",
                  f"{place}, the {noun}{after}" if place else f"the {noun}{after}"]
    else:
        options = FREE_MOTIONS[looks.motion]
        doing, does = options[int(rng.integers(len(options)))]
        orders = [f"{_article(noun)}{after} {place} {doing}",
                  f"{doing} {place}, the {noun}{after}",
                  f"it is the {noun}{after} {place} that {does}",
                  f"look for {_article(noun)}{after} which {does} {place}"]
    text = orders[int(rng.integers(len(orders)))]
    return " ".join(text.split()).strip(" ,").replace(" ,", ",")


def _synonym(rng: np.random.Generator, word: str) -> str:
    """The plain word half of the time, so that a vocabulary of the source is not all at sea."""
    options = SYNONYMS[word]
    return word if rng.uniform() < 0.5 else options[int(rng.integers(len(options)))]


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" and not noun.startswith("un ") else f"a {noun}"
