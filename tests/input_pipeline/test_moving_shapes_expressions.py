"""Sentences name one actor: read back from the words alone, over hundreds of scenes."""

import numpy as np
import pytest

from vseg_jax.input_pipeline.builders.moving_shapes.expressions import (
    MOTION_WORDS,
    RELATIONS,
    SYNONYMS,
    Claim,
    Wording,
    describe,
    names_only,
)
from vseg_jax.input_pipeline.builders.moving_shapes.scene import ATTRIBUTES, VALUES, draw_scene

SETTINGS = dict(height=64, width=64, length=16, actors=(2, 5), differs=(1, 1, 1, 1, 1), drift=0.1)
PHRASES = {}  # phrase -> (attribute, value)
for attribute in ATTRIBUTES:
    for value in VALUES[attribute]:
        words = ([w for pair in MOTION_WORDS[value] for w in pair] if attribute == "motion"
                 else [value, *SYNONYMS[value]])
        for word in words:
            assert PHRASES.setdefault(word, (attribute, value)) == (attribute, value)
FILLERS = {"the", "a", "an", "and", "it", "is", "that"}


def read(text: str) -> dict[str, str]:
    """{attribute: value} of a sentence without a relation; fails on any word left over."""
    claimed, rest = {}, f" {text.replace(',', ' ')} "
    for phrase in sorted(PHRASES, key=len, reverse=True):
        if f" {phrase} " in rest:
            name, value = PHRASES[phrase]
            assert name not in claimed, f"'{text}' speaks twice of its {name}"
            claimed[name], rest = value, rest.replace(f" {phrase} ", "  ", 1)
    assert set(rest.split()) <= FILLERS, f"'{text}' holds unknown words: {rest}"
    return claimed


def fits(appearance, claimed: dict[str, str]) -> bool:
    # An actor that grows might be taken for either size.
    return all(getattr(appearance, a) == v or (a == "size" and not appearance.size)
               for a, v in claimed.items())


def split_relation(text: str):
    """(rest of the sentence, relation, words for the reference); relation "" where none."""
    for name, words in RELATIONS.items():
        if f"{words} the " in text:
            before, after = text.split(f"{words} the ", 1)
            taken = 2
            for noun in ("five-pointed star", "plus sign", "heart shape"):
                if after.split(" ", 1)[1].startswith(noun):
                    taken = 3
            parts = after.replace(",", " , ").split()
            return before + " " + " ".join(parts[taken:]), name, " ".join(parts[:taken])
    return text, "", ""


PLAIN, VARIED = Wording(), Wording(varied=True)
STYLE, LEXICON = Wording(varied=True, style=True), Wording(varied=True, lexicon=True)
ALL = Wording(varied=True, style=True, lexicon=True)


def texts_of(wording, **settings):
    """Expressions of many scenes."""
    for seed in range(150):
        scene = draw_scene(np.random.default_rng(seed), **SETTINGS)
        everyone = range(len(scene.appearances))
        rng = np.random.default_rng(seed)
        for actor in everyone:
            yield describe(rng, scene, actor, wording=wording, references=everyone, **settings)


def words_of(wording):
    return {word for text in texts_of(wording) for word in text.replace(",", "").split()}


@pytest.mark.parametrize("wording", [PLAIN, VARIED, STYLE, LEXICON, ALL])
def test_every_expression_fits_one_actor_only(wording):
    related = 0
    for seed in range(300):
        scene = draw_scene(np.random.default_rng(seed), **SETTINGS)
        rng = np.random.default_rng(seed)
        everyone = range(len(scene.appearances))
        texts = [describe(rng, scene, a, wording=wording, references=everyone) for a in everyone]
        assert len(set(texts)) == len(texts)
        for actor, text in enumerate(texts):
            rest, relation, reference = split_relation(text)
            claimed = read(rest)
            fitting = [i for i in everyone if fits(scene.appearances[i], claimed)]
            if relation:
                related += 1
                named = read(reference)
                (place,) = [i for i in everyone if fits(scene.appearances[i], named)]
                axis, sign = {"left": (0, -1), "right": (0, 1), "above": (1, -1),
                              "below": (1, 1)}[relation]
                ahead = [sign * (scene.paths[i].center - scene.paths[place].center)[:, axis]
                         for i in everyone]
                assert (ahead[actor] > 0).all()
                fitting = [i for i in fitting if i != place and (ahead[i] > 0).mean() > 0.1]
            assert fitting == [actor], text
            if attribute := scene.differs_in(actor):
                assert attribute in claimed, f"'{text}' lacks the {attribute}"
    assert related == 0 if wording == PLAIN else related > (150 if wording.style else 40)


def test_plain_expressions_are_short_and_have_one_order():
    scene = draw_scene(np.random.default_rng(2), **SETTINGS)
    for actor, appearance in enumerate(scene.appearances):
        words = describe(np.random.default_rng(0), scene, actor, wording=PLAIN).split()
        assert words[0] == "the" and appearance.shape in words and len(words) <= 7


def test_varied_expressions_have_two_templates_and_half_of_the_synonyms():
    texts = list(texts_of(VARIED))
    first = [text.startswith("the ") for text in texts]
    assert 0.4 < np.mean(first) < 0.6
    assert all(text.startswith(("the ", "it is a ", "it is an ")) for text in texts)
    words = words_of(VARIED)
    assert {"crimson", "disc", "golden"} < words
    assert not {"scarlet", "ball", "lemon", "tangerine"} & words


def test_the_styles_of_the_target_are_new_but_their_words_are_not():
    texts = list(texts_of(STYLE))
    assert not [text for text in texts if text.startswith("it is a ")]
    assert words_of(STYLE) <= words_of(VARIED)
    assert len({text.split(" is ")[0].count(" ") for text in texts}) > 3   # the noun moves


def test_the_lexicon_of_the_target_has_words_that_the_source_lacks():
    new = words_of(LEXICON) - words_of(VARIED)
    assert {"scarlet", "ball", "lemon", "tangerine"} < new
    assert not {"crimson", "disc", "golden"} & new


def test_an_attribute_that_never_differs_is_named_only_if_needed():
    moving = {word for text in texts_of(PLAIN) for word in text.split()} & {"moving", "rotating"}
    still = [text for text in texts_of(PLAIN, differs=(1, 1, 1, 1, 0)) if "moving" in text]
    assert moving and len(still) < 0.3 * sum("moving" in text for text in texts_of(PLAIN))


def test_a_claim_that_fits_two_actors_is_rejected():
    for seed in range(50):
        scene = draw_scene(np.random.default_rng(seed), **SETTINGS)
        actor = next(i for i, distractor in enumerate(scene.distractors) if distractor >= 0)
        all_but = tuple(a for a in ATTRIBUTES if a != scene.differs_in(actor))
        assert not names_only(scene, actor, Claim(all_but))
        assert names_only(scene, actor, Claim(ATTRIBUTES))
