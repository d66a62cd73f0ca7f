"""What may be said about the objects of a clip, on facts written by hand."""

import numpy as np
import pytest

from vseg_jax.input_pipeline.builders.refer_stills.colors import Colors, measure
from vseg_jax.input_pipeline.builders.refer_stills.expressions import describe, say
from vseg_jax.input_pipeline.builders.refer_stills.facts import (
    Claim,
    Facts,
    names_only,
    needed,
    statements,
)
from vseg_jax.input_pipeline.builders.refer_stills.nouns import nouns, possible_nouns, usable


def fact(category="dog", colors=("brown",), possible=(), x=(0.5, 0.5), area=1000, way=(0.0, 0.0),
         camera=(0.0, 0.0), growth=1.0, visible=1.0):
    """An object that is at `x` in its first and last frame, with a path in widths of the frame."""
    center = np.stack([np.linspace(*x, 3), np.full(3, 0.5)], axis=1)
    colors = Colors(frozenset(colors), frozenset((*colors, *possible)))
    areas = np.full(3, float(area))
    return Facts(category, colors, areas, visible * areas, center, np.array(way),
                 np.add(way, camera), growth)


LEFT, RIGHT = fact(x=(0.2, 0.2)), fact(x=(0.8, 0.8))


@pytest.mark.parametrize("facts, claim, named", [
    ([fact(), fact("cat")], Claim("dog"), True),
    ([fact(), fact()], Claim("dog"), False),
    ([fact(), fact(colors=("black",))], Claim("dog", color="brown"), True),
    ([fact(), fact(colors=("black",), possible=("brown",))], Claim("dog", color="brown"), False),
    ([fact(colors=(), possible=("brown",)), fact("cat")], Claim("dog", color="brown"), False),
    ([LEFT, RIGHT], Claim("dog", place="left"), True),
    ([LEFT, fact(x=(0.51, 0.9))], Claim("dog", place="left"), False),    # at first in between
    ([fact(x=(0.2, 0.45)), RIGHT], Claim("dog", place="left"), False),
    ([fact(), RIGHT], Claim("dog", place="middle"), True),
    ([fact(), fact(x=(0.68, 0.9))], Claim("dog", place="middle"), False),
    ([fact(area=100), fact(area=230)], Claim("dog", size="small"), True),
    ([fact(area=100), fact(area=210)], Claim("dog", size="small"), False),
    ([fact(area=100), fact("cat", area=900)], Claim("dog", size="small"), False),  # of what?
    ([fact(area=100), fact(area=300), fact(area=900)], Claim("dog", size="small"), False),
    ([fact(area=100), fact(area=300), fact(area=400)], Claim("dog", size="small"), True),
    ([fact(area=300), fact(area=100, visible=0.1)], Claim("dog", size="large"), True),
    ([fact(area=100, visible=0.3), fact(area=100)], Claim("dog", size="small"), False),  # hidden
    ([fact(way=(0.3, 0.1)), fact()], Claim("dog", motion="right"), True),
    ([fact(way=(0.3, 0.2)), fact()], Claim("dog", motion="right"), False),    # too steep
    ([fact(way=(0.3, 0), camera=(-0.25, 0)), fact()], Claim("dog", motion="right"), False),
    ([fact(way=(0.3, 0)), fact(camera=(0.05, 0))], Claim("dog", motion="right"), False),
    ([fact(way=(-0.3, 0)), fact()], Claim("dog", motion="left"), True),
    ([fact(), fact(way=(0.05, 0))], Claim("dog", motion="still"), False),
    ([fact(), fact(way=(0.07, 0))], Claim("dog", motion="still"), True),
    ([fact(camera=(0.2, 0)), fact(growth=2.0)], Claim("dog", motion="still"), False),
    ([fact(growth=1.6), fact(growth=1.1)], Claim("dog", motion="closer"), True),
    ([fact(growth=1.6), fact(growth=1.2)], Claim("dog", motion="closer"), False),
    ([fact(growth=0.6), fact()], Claim("dog", motion="away"), True),
    ([fact(growth=0.6), fact(way=(0.05, 0))], Claim("dog", motion="moving"), False),
    ([fact(growth=0.6), fact(way=(0.03, 0))], Claim("dog", motion="moving"), True),
    ([fact("person"), fact("woman")], Claim("person"), False),
    ([fact("woman"), fact("person")], Claim("woman"), False),   # the person may be a woman
    ([fact("woman"), fact("man")], Claim("woman"), True),
    ([fact("sofa"), fact("couch")], Claim("sofa"), False),
    ([fact("dog"), fact("cat")], Claim("animal"), False),
    ([fact("dog"), fact("car")], Claim("animal"), True),
])
def test_a_claim_names_the_first_object_only(facts, claim, named):
    assert names_only(facts, 0, claim) is named


def test_places_relative_to_another_object():
    claim = Claim("dog", relation="left of", reference=1, reference_noun="car")
    car = fact("car", x=(0.6, 0.6))
    assert names_only([fact(x=(0.4, 0.4)), car], 0, claim)
    assert not names_only([fact(x=(0.4, 0.5)), car], 0, claim)                 # too close
    assert not names_only([fact(x=(0.4, 0.4)), car, fact(x=(0.59, 0.9))], 0, claim)
    assert names_only([fact(x=(0.4, 0.4)), car, fact(x=(0.61, 0.9))], 0, claim)
    assert not names_only([fact(x=(0.4, 0.4)), car, fact("car")], 0, claim)    # of which car?
    assert not names_only([fact(), fact(), fact("car")], 0, claim)


def test_the_parts_that_a_claim_needs():
    facts = [fact(x=(0.2, 0.2)), fact(colors=("black",), x=(0.8, 0.8)), fact("cat")]
    assert needed(facts, 0, Claim("dog", color="brown", motion="still")) == ["category", "color"]
    assert needed(facts[:2], 0, Claim("dog", place="left")) == ["place"]
    relation = Claim("dog", relation="left of", reference=2, reference_noun="cat")
    assert needed(facts, 0, relation) == ["place"]
    assert needed(facts, 2, Claim("cat")) == ["category"]
    facts[2] = fact("cat", x=(0.9, 0.9))
    assert needed(facts, 0, Claim("dog", color="brown", place="left")) == []


def test_what_can_be_stated():
    facts = [fact(x=(0.1, 0.4), way=(0.3, 0), area=100), fact("dog", area=900)]
    assert statements(facts, 0, "dog") == [
        ("color", "brown"), ("size", "small"), ("place", "left"), ("motion", "right"),
        ("motion", "moving")]


@pytest.mark.parametrize("style, claim, texts", [
    ("plain", Claim("dog", color="brown", size="small", place="left", motion="right"),
     {f"{article} small brown dog on the left moving right" for article in ("a", "the")}),
    ("plain", Claim("person", color="red", motion="away"),
     {"the person in red moving away", "a person in red moving away"}),
    ("plain", Claim("elephant"), {"the elephant", "an elephant"}),
    ("short", Claim("dog", color="brown", place="left"), {"left brown dog"}),
    ("short", Claim("dog", relation="left of", reference=1, reference_noun="car"),
     {"dog left of car"}),
    ("order", Claim("dog", color="brown"), {"brown, the dog"}),
    ("order", Claim("dog", place="left", motion="still"),
     {"on the left is the dog staying in place", "on the left, the dog staying in place",
      "staying in place on the left, the dog"}),
    ("order", Claim("dog"), {"that is the dog", "it is the dog"}),
])
def test_the_styles(style, claim, texts):
    assert {say(np.random.default_rng(i), claim, style) for i in range(40)} == texts


def test_the_free_style_says_the_same_in_other_words():
    claim = Claim("person", color="red", place="left", motion="right")
    texts = {say(np.random.default_rng(i), claim, "free") for i in range(200)}
    assert len(texts) > 50
    assert {t.partition(" person")[0] for t in texts} == {"the", "a", "look for the", "it is the"}
    for text in texts:
        assert "person who" in text and "wears red" in text and "right" in text and "left" in text


def test_what_is_allowed_is_used_and_needed_things_are_said():
    facts = [fact(x=(0.2, 0.2), way=(0.3, 0)), fact(colors=("black",), x=(0.8, 0.8)),
             fact("car", x=(0.5, 0.5))]
    for seed in range(30):
        rng = np.random.default_rng(seed)
        one = describe(rng, facts, 0, "plain", ("color",), (2,))
        assert one.text in ("the brown dog", "a brown dog") and one.differs_in == "color"
        assert one.object_id == 1 and one.style == "plain"
        assert describe(rng, facts, 0, "short", ("place",), (2,)).text in (
            "left dog", "dog left of car")
        assert describe(rng, facts, 0, "short", ()) is None
        assert describe(rng, facts, 2, "short").text == "car"


def test_nouns_of_categories():
    assert {"potted plant", "plant"} <= nouns("pottedplant")
    assert usable("pottedplant", ["pottedplant"]) == ("potted plant", "plant")
    assert usable("giant_panda", ["giant_panda", "snow_leopard"]) == ("giant panda",)
    assert "animal" in usable("dog", ["dog", "car"]) and "animal" in nouns("cat")
    assert usable("dog", ["dog", "wolpertinger"]) == ("dog",)   # may be an animal
    assert "woman" in possible_nouns("person") and "woman" not in nouns("person")
    assert "woman" not in possible_nouns("man") and "dog" not in possible_nouns("cat")


@pytest.mark.parametrize("rgb, clear, possible", [
    ((255, 0, 0), "red", ()), ((255, 0, 40), "red", ("pink",)), ((128, 70, 30), "brown", ()),
    ((10, 10, 10), "black", ()), ((250, 250, 250), "white", ()),
    ((128, 128, 128), "gray", ()), ((30, 60, 200), "blue", ()), ((255, 255, 0), "yellow", ()),
    ((20, 150, 40), "green", ()), ((205, 180, 150), "", ("brown", "white")),
])
def test_colors_of_pixels(rgb, clear, possible):
    found = measure(np.tile(np.uint8(rgb), (50, 1)))
    assert found.clear == ({clear} if clear else set())
    assert set(possible) <= found.possible


def test_an_object_of_two_colors_has_both_or_none():
    halves = np.repeat(np.uint8([(255, 0, 0), (30, 60, 200)]), [60, 40], axis=0)
    assert measure(halves).clear == {"red"} and measure(halves).possible >= {"red", "blue"}
    thirds = np.repeat(np.uint8([(255, 0, 0), (30, 60, 200), (255, 255, 0)]), 33, axis=0)
    assert measure(thirds).clear == set()
    assert measure(np.zeros((0, 3), np.uint8)).possible == set()
