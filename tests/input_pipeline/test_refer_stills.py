"""Clips with expressions from still images, which these tests draw themselves."""

import dataclasses
import json

import numpy as np
import pytest
from archives import palette_png
from PIL import Image

from vseg_jax.input_pipeline.builders import prepare, verify
from vseg_jax.input_pipeline.builders.refer_stills import Generator, Options
from vseg_jax.input_pipeline.builders.refer_stills.scene import place_background
from vseg_jax.input_pipeline.builders.refer_stills.stock import (
    Background,
    background,
    cut_out,
    divide,
    read_stock,
)
from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer

COLORS = {"red": (220, 20, 20), "green": (30, 170, 40), "blue": (30, 50, 220),
          "yellow": (235, 225, 40), "black": (20, 20, 20)}
CATEGORIES = ("dog", "cat", "car")
SIZE = (72, 96)
SMALL = {"height": 48, "width": 80, "length": 4, "train": 4, "test": 2}


def drawn(folder, count=24):
    """Stills of one or two ellipses, whose colors are in `COLORS`, over pale backgrounds."""
    rng, names = np.random.default_rng(0), {}
    (folder / "images").mkdir(parents=True)
    y, x = np.indices(SIZE)
    for number in range(count):
        rgb = np.full((*SIZE, 3), rng.integers(185, 215, 3), np.uint8)
        mask, name = np.zeros(SIZE, np.uint8), f"s{number:02d}"
        for k in range(1 + number % 2):
            radii = rng.integers(9, 15, 2)
            inside = ((y - 36) / radii[0]) ** 2 + ((x - 25 - 45 * k) / radii[1]) ** 2 < 1
            rgb[inside] = list(COLORS.values())[(number + 2 * k) % len(COLORS)]
            mask[inside] = k + 1
        Image.fromarray(rgb).save(folder / f"images/{name}.png")
        palette_png(folder / f"masks/{name}.png", mask)
        names[name] = {str(k + 1): CATEGORIES[(number + k) % len(CATEGORIES)]
                       for k in range(1 + number % 2)}
    (folder / "categories.json").write_text(json.dumps(names))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("stills") / "source")


@pytest.fixture(scope="module")
def stock(source):
    return read_stock(source, ())


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    return prepare("refer_stills", source, tmp_path_factory.mktemp("built"), SMALL)


def color_of(frame, mask, number):
    """The color of an object, from the pixels that its mask has in a frame."""
    pixels = frame[mask == number].astype(float)
    typical = np.median(pixels, axis=0)
    name, rgb = min(COLORS.items(), key=lambda item: np.abs(typical - item[1]).sum())
    assert np.abs(typical - rgb).max() < 60, "the mask is on another object"
    return name


def test_every_expression_is_true_of_exactly_one_object(stock):
    """Read from the words and checked on the pixels, without what the generator knows."""
    checked = {"color": 0, "side": 0, "way": 0}
    for number in range(24):
        options = Options(**SMALL, styles=("short",), keep=0.5, drift=0.0)
        clip, expressions = Generator(options, "train", stock).clip(number)
        ids = [k for k in range(1, len(clip.facts) + 1) if (clip.masks == k).any()]
        seen = {k: [np.argwhere(m == k).mean(0)[1] / 80 for m in clip.masks if (m == k).any()]
                for k in ids}
        best = {k: int((clip.masks == k).sum(axis=(1, 2)).argmax()) for k in ids}
        looks = {k: color_of(clip.frames[t], clip.masks[t], k) for k, t in best.items()}
        for e in expressions:
            words, named = e.text.split(), []
            if "of" in words or "middle" in words:
                continue
            for k in ids:
                fits = clip.facts[k - 1].category in words
                if said := COLORS.keys() & set(words):
                    fits &= looks[k] in said
                    checked["color"] += k == e.object_id
                if words[0] in ("left", "right"):
                    fits &= all((x < 0.5) == (words[0] == "left") for x in seen[k])
                    checked["side"] += k == e.object_id
                if "moving left" in e.text or "moving right" in e.text:
                    way = seen[k][-1] - seen[k][0]
                    fits &= abs(way) > 0.06 and (way > 0) == ("moving right" in e.text)
                    checked["way"] += k == e.object_id
                named += [k] * int(fits)
            assert e.object_id in named, (number, e)
            if not {"small", "large"} & set(words) and "closer" not in words and (
                    "staying" not in words and "away" not in words and words[-1] != "moving"):
                assert named == [e.object_id], (number, e, looks)
    assert min(checked.values()) >= 3, checked


def test_masks_are_those_of_what_can_be_seen(stock):
    """A nearer object hides a farther one, in the picture and in the mask; soft edges aside."""
    hidden = 0
    for number in range(12):
        clip, _ = Generator(Options(**SMALL, keep=0.0), "train", stock).clip(number)
        hidden += any((one.visible < 0.9 * one.area).any() for one in clip.facts)
        for frame, mask in zip(clip.frames, clip.masks, strict=True):
            for k, one in enumerate(clip.facts, 1):
                if (mask == k).sum() > 40:
                    [wanted] = one.colors.clear
                    assert color_of(frame, mask, k) == wanted
    assert hidden >= 2


def test_objects_that_stay_in_the_background_move_with_the_camera(stock):
    still = next(s for s in stock if len(s.categories) == 2)
    camera = np.linspace(0, 1, 4)[:, None] * np.array([9.0, -6.0])
    scenery = place_background(np.random.default_rng(0), background(still, True), camera, (48, 80))
    first, last = (np.argwhere(scenery.masks[t] == 1) for t in (0, 3))
    np.testing.assert_allclose(last.mean(0) - first.mean(0), (-6, 9), atol=0.5)
    assert scenery.kept == [1, 2]


def test_a_background_fills_every_frame_without_its_mirror_image():
    y, x = np.indices((60, 70))
    picture = Background(np.stack([3 * x, 4 * y, 0 * x], -1).astype(np.uint8),
                         np.zeros((60, 70), np.uint8), {}, {})
    for seed in range(6):
        camera = np.linspace(0, 1, 3)[:, None] * np.array([[9.0, -6.0], [-9.0, 6.0]][seed % 2])
        scenery = place_background(np.random.default_rng(seed), picture, camera, (48, 80))
        frames = scenery.frames.astype(int)
        assert (np.diff(frames[..., 0], axis=2) >= 0).all()
        assert (np.diff(frames[..., 1], axis=1) >= 0).all()


def test_objects_are_painted_over(stock):
    still = next(s for s in stock if len(s.categories) == 2)
    kept, empty = background(still, True), background(still, False)
    assert not empty.mask.any() and not empty.categories
    around = np.median(kept.rgb[kept.mask == 0].astype(int), axis=0)
    assert np.abs(empty.rgb.astype(int) - around).max() < 10
    np.testing.assert_array_equal(empty.rgb[0], kept.rgb[0])


def test_a_cut_out_object_has_no_trace_of_its_background(stock):
    still = stock[0]
    cutout = cut_out(still, 1)
    opaque = cutout.rgba[..., 3] > 200
    [color] = cutout.colors.clear
    assert np.abs(cutout.rgba[opaque][:, :3].astype(int) * 255
                  // cutout.rgba[opaque][:, 3:] - COLORS[color]).max() <= 3
    assert not cutout.rgba[0].any() and cutout.rgba[..., 3].max() == 255


def test_objects_at_the_border_are_not_cut_out(tmp_path):
    source = drawn(tmp_path / "a", 2)
    mask = np.zeros(SIZE, np.uint8)
    mask[:20, 40:60], mask[40:60, 40:60] = 1, 2
    palette_png(source / "masks/s01.png", mask)
    assert [s.whole for s in read_stock(source, ())] == [(1,), (2,)]
    mask[40:60, 40:41] = 0
    mask[40:60, 45:50] = 0   # two parts of the same size
    palette_png(source / "masks/s01.png", mask)
    assert [s.whole for s in read_stock(source, ())] == [(1,), ()]


def test_the_same_seed_gives_the_same_clips(source, stock, built, tmp_path):
    one = Generator(Options(**SMALL), "train", stock).record(3)
    again = Generator(Options(**{**SMALL, "train": 9}), "train", stock).record(3)
    other = Generator(Options(**SMALL, seed=1), "train", stock).record(3)
    assert dataclasses.asdict(one) == dataclasses.asdict(again)
    assert one.frames != other.frames
    folders = built, prepare("refer_stills", source, tmp_path, SMALL)
    shards = [sorted(folder.glob("*.array_record-*")) for folder in folders]
    assert len(shards[0]) == 2
    for first, second in zip(*shards, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_train_and_test_are_drawn_from_different_stills(stock):
    parts = divide(stock, 0.3, 0)
    train, test = ({s.name for s in parts[split]} for split in ("train", "test"))
    assert not train & test and len(test) == 8 and len(train) == 16   # ceil(0.3 * 24)
    assert {s.name for s in divide(stock, 0.3, 1)["test"]} != test
    used = Generator(Options(**SMALL), "test", parts["test"])
    assert {s.name for s, _ in used._objects} <= test
    with pytest.raises(ValueError, match="none of the 0 stills of train"):
        divide(stock, 0.999, 0)


def test_the_dataset_gives_samples_and_shuffled_ones(built):
    dataset = open_dataset(built, "train")
    assert len(dataset) == 4 and {c.name for c in dataset.categories} == set(CATEGORIES)
    assert all(len({e.object_id for e in entry.expressions}) >= 2 for entry in dataset.index)
    texts = [e.text for entry in dataset.index for e in entry.expressions]
    tokenizer = WordTokenizer.from_texts(texts, 24)
    clip = ClipConfig(length=1, stride=1, target=0, height=48, width=80)
    for shuffle in (False, True):
        samples = ReferringSamples(dataset, clip, tokenizer, train=False, styles=("plain",),
                                   shuffle_expressions=shuffle)
        assert samples[0]["frames"].shape == (1, 48, 80, 3) and len(samples) >= 4 * 2 * 4


@pytest.mark.parametrize("change, message", [
    ({"objects": (1, 2)}, "objects must be"), ({"styles": ("rude",)}, "styles must be some of"),
    ({"held_out": 0}, "held_out must lie"), ({"keep": 1.5}, "keep must lie within 0 to 1"),
    ({"length": 1}, "a clip 2 frames long"), ({"styles": (), "objects": (0, 2)}, "within 1 to 8"),
    ({"renamed": ("car",)}, "pairs such as car=vehicle"),
    ({"renamed": ("boat=vehicle",)}, "names boat, which no object is; there are car, cat, dog"),
    ({"backgrounds": ("x",)}, "of the 0 stills that may be backgrounds of train, none has objects"),
])
def test_options_that_cannot_be_met(source, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        prepare("refer_stills", source, tmp_path / "data", {**SMALL, **change})


def test_stills_without_categories(source, tmp_path):
    copy = drawn(tmp_path / "copy", 3)
    assert verify("refer_stills", copy) == []
    (copy / "categories.json").write_text('{"s00": {}, "s01": {"1": "dog"}}')
    with pytest.raises(ValueError, match=r"categories\.json is missing or names no object"):
        prepare("refer_stills", copy, tmp_path / "data", {"sets": "s00,s02"})
    assert [s.name for s in read_stock(copy, ())] == []   # s01 has an object without a category
    (copy / "categories.json").unlink()
    [problem] = verify("refer_stills", copy)
    assert "expressions need the categories" in problem


def test_clips_without_expressions(source, tmp_path):
    """One object is enough, and some clips show a background with its own objects alone."""
    options = {**SMALL, "train": 24, "styles": "", "objects": "1,2", "unpasted": "0.5",
               "renamed": "car=vehicle"}
    dataset = open_dataset(prepare("refer_stills", source, tmp_path, options), "train")
    assert {c.name for c in dataset.categories} == {"cat", "dog", "vehicle"}
    assert not any(entry.expressions for entry in dataset.index)
    assert min(len(entry.objects) for entry in dataset.index) == 1
    assert {o.category for entry in dataset.index for o in entry.objects} == {
        "cat", "dog", "vehicle"}


def test_unpasted_clips_are_pictures_as_they_are(stock):
    options = Options(**SMALL, styles=(), unpasted=1.0, drift=0.0)
    for number in range(6):
        clip, _ = Generator(options, "train", stock).clip(number)
        assert all((frame == clip.frames[0]).all() for frame in clip.frames)
        assert all(not one.way.any() for one in clip.facts)


def test_objects_enter_or_leave_the_frame(stock):
    options = Options(**SMALL, styles=(), objects=(1, 1), keep=0.0, moving=1.0, enter=1.0)
    sides = set()
    for number in range(16):
        clip, _ = Generator(options, "train", stock).clip(number)
        shown = (clip.masks == 1).any(axis=(1, 2))
        outside = 0 if not shown[0] else -1
        assert not shown[outside] and shown[1:3].any(), number
        columns = np.argwhere(clip.masks[[1, 2][outside]] == 1)[:, 1]
        sides.add((outside, columns.mean() < 40))
    assert len(sides) == 4, "from and to both sides"


def test_all_categories_are_drawn_equally_often(source, stock):
    few = [s for k, s in enumerate(stock) if k < 4 or "car" not in s.categories.values()]
    options = Options(**SMALL, styles=(), objects=(1, 1), keep=0.0)

    def share(even):
        generator = Generator(dataclasses.replace(options, even=even), "train", few)
        picked = [generator._pick(np.random.default_rng(n), ()) for n in range(150)]
        return np.mean([still.categories[i] == "car" for still, i in picked])

    assert share(0.0) < 0.2 < 0.25 < share(1.0) < 0.42
