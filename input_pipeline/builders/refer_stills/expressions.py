"""Expressions that are true of exactly one object of a clip, in several styles."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders.refer_stills.facts import (
    ATTRIBUTES,
    RELATIONS,
    Claim,
    Facts,
    names_only,
    needed,
    statements,
)
from vseg_jax.input_pipeline.builders.refer_stills.nouns import PEOPLE, plain, usable

STYLES = ("plain", "free", "order", "short")
_CHANCE = {"color": 0.5, "size": 0.2, "place": 0.3, "motion": 0.4}  # of words that are not needed
_RELATED = 0.3   # share of the claims that name a place relative to another object, if they can
_GENERAL = 0.5   # share of the free expressions with another noun than the plain one

_SIZES = {"small": ("small", "little"), "large": ("large", "big")}
_PLACES = {
    "left": ("on the left", "on the left side", "in the left half"),
    "right": ("on the right", "on the right side", "in the right half"),
    "middle": ("in the middle", "in the center", "halfway between both sides"),
}
_RELATIONS = {"left of": ("left of", "to the left of"), "right of": ("right of", "to the right of")}
_DOING = {
    "left": "moving left", "right": "moving right", "closer": "coming closer",
    "away": "moving away", "still": "staying in place", "moving": "moving",
}
_DOES = {
    "left": ("moves left", "heads to the left", "travels to the left"),
    "right": ("moves right", "heads to the right", "travels to the right"),
    "closer": ("comes closer", "approaches", "gets bigger"),
    "away": ("moves away", "gets smaller", "disappears into the distance"),
    "still": ("stays in place", "does not move", "keeps still"),
    "moving": ("moves", "is in motion", "changes its place"),
}


def describe(
    rng: np.random.Generator, facts: Sequence[Facts], number: int, style: str,
    attributes: Collection[str] = ATTRIBUTES, references: Collection[int] = (),
) -> records.Expression | None:
    """Returns an expression that is true of one object only; None if there is none.

    Args:
      rng: randomness.
      facts: of all objects of the clip; object k has the id k + 1.
      number: the object to name.
      style: one of `STYLES`.
      attributes: those of `ATTRIBUTES` that may be used.
      references: objects that a relative place may name.
    """
    claim = draw_claim(rng, facts, number, style, attributes, references)
    if claim is None:
        return None
    required = needed(facts, number, claim)
    if len(required) > 1:   # the category is nearly always needed; what tells it from its like?
        required = [name for name in required if name != "category"]
    return records.Expression(say(rng, claim, style), number + 1, style,
                              required[0] if len(required) == 1 else "")


def draw_claim(
    rng: np.random.Generator, facts: Sequence[Facts], number: int, style: str,
    attributes: Collection[str], references: Collection[int],
) -> Claim | None:
    """Returns a claim that names the object only; None if no attempt finds one."""
    categories = [one.category for one in facts]
    known = usable(categories[number], categories)
    noun = known[0]
    if style == "free" and len(known) > 1 and rng.uniform() < _GENERAL:
        noun = known[int(rng.integers(1, len(known)))]
    claims = [Claim(noun)]
    if "place" in attributes:
        claims += [Claim(noun, relation=relation, reference=other,
                         reference_noun=plain(categories[other]))
                   for other in references for relation in RELATIONS]
    related = [claim for claim in claims[1:] if names_only(facts, number, claim)]
    said = [pair for pair in statements(facts, number, noun) if pair[0] in attributes]
    said = [said[int(i)] for i in rng.permutation(len(said))]
    if related and (rng.uniform() < _RELATED or not said):
        return related[int(rng.integers(len(related)))]
    claim = claims[0]
    if style != "short":
        for name, value in said:
            if not getattr(claim, name) and rng.uniform() < _CHANCE[name]:
                claim = dataclasses.replace(claim, **{name: value})
    for name, value in said:
        if names_only(facts, number, claim):
            break
        if not getattr(claim, name):
            claim = dataclasses.replace(claim, **{name: value})
    if not names_only(facts, number, claim):
        return related[int(rng.integers(len(related)))] if related else None
    return _without_surplus(facts, number, claim) if style == "short" else claim


def _without_surplus(facts: Sequence[Facts], number: int, claim: Claim) -> Claim:
    """Returns the claim without the attributes that it does not need."""
    for name in ATTRIBUTES:
        less = dataclasses.replace(claim, **{name: ""})
        if names_only(facts, number, less):
            claim = less
    return claim


def say(rng: np.random.Generator, claim: Claim, style: str) -> str:
    """Returns a claim in words, in one of `STYLES`."""
    free = style == "free"
    people = claim.noun in PEOPLE

    def word(table: dict[str, tuple[str, ...]], value: str) -> str:
        words = table[value] if value else ("",)
        return words[int(rng.integers(len(words)))] if free else words[0]

    size, place = word(_SIZES, claim.size), word(_PLACES, claim.place)
    if claim.relation:
        place = f"{word(_RELATIONS, claim.relation)} the {claim.reference_noun}"
    doing, does = _DOING.get(claim.motion, ""), word(_DOES, claim.motion)
    color = "" if people else claim.color
    dress = f"in {claim.color}" if people and claim.color else ""
    if style == "short":
        side = claim.place in ("left", "right")
        front, behind = (claim.place, "") if side else ("", place.replace(" the ", " "))
        return _join(front, size, color, claim.noun, dress, doing, behind)
    if style == "order":
        return _in_another_order(rng, size, color, claim.noun, dress, doing, place)
    if free:
        return _freely(rng, size, color, claim.noun, dress, does, place,
                       "who" if people else "that")
    article = "the" if rng.uniform() < 0.5 else _article(_join(size, color, claim.noun))
    return _join(article, size, color, claim.noun, dress, place, doing)


def _in_another_order(rng: np.random.Generator, size: str, color: str, noun: str, dress: str,
                      doing: str, place: str) -> str:
    """Returns a sentence that does not begin with the noun, where the claim says more than it."""
    orders = []
    if place:
        orders.append(_join(place, "is the", size, color, noun, dress, doing))
        orders.append(_join(place, ", the", size, color, noun, dress, doing))
    if doing:
        orders.append(_join(doing, place, ", the", size, color, noun, dress))
    if color or dress:
        orders.append(_join(color or dress, ", the", size, noun, place, doing))
    if size:
        orders.append(_join("the", size, "one is the", color, noun, dress, place, doing))
    if not orders:
        orders = [f"that is the {noun}", f"it is the {noun}"]
    return orders[int(rng.integers(len(orders)))]


def _freely(rng: np.random.Generator, size: str, color: str, noun: str, dress: str, does: str,
            place: str, which: str) -> str:
    """Returns a sentence with relative clauses, in one of several frames."""
    looks = " and ".join(filter(None, (size, color)))
    clauses = [f"is {looks}"] if looks else []
    clauses += [f"wears {dress.removeprefix('in ')}"] if dress else []
    clauses += [f"is {place}"] if place else []
    clauses += [does] if does else []
    clauses = [clauses[int(i)] for i in rng.permutation(len(clauses))]
    frames = [_join("the", noun, which if clauses else "", " and ".join(clauses)),
              _join(_article(noun), noun, which if clauses else "in this video",
                    " and ".join(clauses))]
    if clauses:
        frames.append(_join("look for the", noun, which, " and ".join(clauses)))
        frames.append(_join("it is the", noun, which, f" and {which} ".join(clauses)))
    else:
        frames += [f"look for the {noun}", f"the only {noun} in this video"]
    return frames[int(rng.integers(len(frames)))]


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _join(*parts: str) -> str:
    return " ".join(" ".join(parts).split()).replace(" ,", ",")
