"""The builder of synthetic videos: records, options, audio."""

import dataclasses

import numpy as np
import pytest

from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import moving_shapes
from vseg_jax.input_pipeline.builders.moving_shapes import (
    Options,
    make_clip,
    make_record,
    nameable,
    style,
)
from vseg_jax.input_pipeline.builders.moving_shapes.audio import TONES, mix
from vseg_jax.input_pipeline.builders.moving_shapes.paths import Path
from vseg_jax.input_pipeline.builders.moving_shapes.scene import SHAPES, Appearance, Scene

SMALL = Options(height=48, width=64, length=6, train=3, test=2)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return moving_shapes.Builder("", tmp_path_factory.mktemp("prepared"), SMALL).build()


def test_a_build_can_be_read_back(built):
    for split in moving_shapes.SPLITS:
        dataset = records.open_dataset(built, split)
        assert len(dataset) == (3 if split.endswith("train") else 2)
        for i, record in enumerate(dataset):
            assert record == make_record(SMALL, split, i)
            assert (record.height, record.width, len(record.frames)) == (48, 64, 6)
            assert len(record.flow) == 6 and record.flow[-1] == b""
            assert len(records.decode_audio(record.audio, split)) == 6 / 8 * 16000
            assert {e.style for e in record.expressions} == {
                "plain" if split.startswith("source") else "free"}
            assert {o.category for o in record.objects} <= set(SHAPES)


def test_encoded_ground_truth_equals_the_drawing():
    _, rendering, _ = make_clip(SMALL, "target_train", 1)
    record = make_record(SMALL, "target_train", 1)
    for t in range(6):
        np.testing.assert_array_equal(records.decode_image(record.frames[t], ""),
                                      rendering.frames[t])
        np.testing.assert_array_equal(records.decode_mask(record.masks[t], ""), rendering.masks[t])
    flow = records.decode_flow(record.flow[2], "")
    np.testing.assert_allclose(flow, rendering.flow[2], atol=1 / 128 + 1e-5)


def test_large_frames_are_stored_as_jpeg():
    large = dataclasses.replace(SMALL, height=128, width=160, length=2, flow=False, audio=False)
    record = make_record(large, "source_test", 0)
    assert record.frames[0][:2] == b"\xff\xd8"
    drawn = make_clip(large, "source_test", 0)[1].frames[0].astype(int)
    assert np.abs(records.decode_image(record.frames[0], "") - drawn).mean() < 4


def test_named_actors_and_their_distractors_can_be_seen():
    options = Options()
    for split in ("source_train", "target_train"):
        for number in range(25):
            scene, rendering, visible = make_clip(options, split, number)
            named = nameable(scene, visible)
            assert len(named) >= 2
            for actor in {*named, *(scene.distractors[a] for a in named)}:
                pixels = (rendering.masks == actor + 1).sum(axis=(1, 2))
                assert (pixels >= 10).mean() >= 0.75


def test_the_seed_determines_clips_and_a_larger_build_starts_equally():
    one = make_record(SMALL, "target_test", 1)
    assert one == make_record(dataclasses.replace(SMALL, test=50), "target_test", 1)
    assert one.frames != make_record(dataclasses.replace(SMALL, seed=1), "target_test", 1).frames
    assert one.frames != make_record(SMALL, "target_train", 1).frames
    assert one.frames != make_record(SMALL, "target_test", 0).frames


def test_shifts_do_not_change_the_content():
    def clip(*shifts):
        return make_clip(dataclasses.replace(SMALL, shifts=shifts), "target_test", 0)

    scene, rendering, _ = clip()
    for shift in set(moving_shapes.SHIFTS) - {"crowd"}:
        other, drawn, _ = clip(shift)
        assert other.appearances == scene.appearances
        assert np.array_equal(drawn.masks, rendering.masks) == (shift != "size")
        assert np.array_equal(drawn.frames, rendering.frames) == (
            shift in ("style", "lexicon"))
    source = make_record(SMALL, "source_test", 0)
    assert source == make_record(dataclasses.replace(SMALL, shifts=()), "source_test", 0)
    plain = make_record(dataclasses.replace(SMALL, shifts=("noise",)), "target_test", 0)
    assert {e.style for e in plain.expressions} == {"plain"}


def test_a_crowd_has_more_actors():
    options = dataclasses.replace(SMALL, shifts=("crowd",), crowd=(5, 6), scale=0.7)
    counts = {len(make_clip(options, "target_test", i)[0].appearances) for i in range(8)}
    assert counts == {5, 6}
    assert len(make_clip(options, "source_test", 0)[0].appearances) <= SMALL.actors[1]


def test_backgrounds_of_the_two_domains():
    """Each domain draws from its own kinds, and every kind looks different."""
    rng = np.random.default_rng(0)
    for kind, draw in style.BACKGROUNDS.items():
        canvases = [draw(rng, 40, 60) for _ in range(3)]
        for canvas in canvases:
            assert canvas.shape == (40, 60, 3) and 0 <= canvas.min() < canvas.max() <= 255, kind
        assert np.abs(canvases[0] - canvases[1]).mean() > 1

    def frame(split, **changes):
        return make_clip(dataclasses.replace(SMALL, **changes), split, 0)[1].frames

    two = {"backgrounds": ("stripes", "tiles"), "new_backgrounds": ("patchwork",)}
    assert not np.array_equal(frame("source_test", **two), frame("source_test"))
    np.testing.assert_array_equal(
        frame("source_test", **two), frame("source_test", **two | {"new_backgrounds": ("blobs",)}))
    seen = {style.BACKGROUNDS[k].__name__ for k in two["backgrounds"]}
    assert seen == {"_stripes", "_tiles"}
    light = {"shifts": ("light",)}
    strong, full, half, none = (frame("target_test", **light, light=x) for x in (1.5, 1, 0.5, 0))
    plain = frame("target_test", shifts=())
    changes = [np.abs(x - plain.astype(float)).mean() for x in (strong, full, half)]
    assert changes[0] > changes[1] > changes[2] > 0
    assert not np.array_equal(none, plain)   # the shadow


def test_placed_sets_how_often_expressions_of_the_shift_style_name_a_place():
    def places(share):
        options = dataclasses.replace(SMALL, varied=True, shifts=("style",), placed=share)
        texts = [e.text for i in range(6)
                 for e in make_record(options, "target_test", i).expressions]
        return sum(" of the " in t or "above the " in t or "below the " in t for t in texts)

    assert places(0) == 0 < places(1)


def test_the_default_source_is_unchanged():
    """Results in the documentation depend on it; the number is the mean of one clip's frames."""
    frames = make_clip(SMALL, "source_train", 1)[1].frames
    assert frames.mean() == pytest.approx(222.09031394675927, abs=1e-6)


def test_scale_makes_all_actors_larger():
    larger = dataclasses.replace(SMALL, scale=1.5)
    for split in ("source_train", "target_train"):
        scenes = [make_clip(options, split, 0)[0] for options in (SMALL, larger)]
        assert scenes[0].appearances == scenes[1].appearances
        for one, two in zip(scenes[0].paths, scenes[1].paths, strict=True):
            # 1.5, but for the six percent either way that every actor draws
            np.testing.assert_allclose(two.radius / one.radius, 1.5, rtol=0.13)


def test_flow_and_audio_can_be_left_out():
    record = make_record(dataclasses.replace(SMALL, flow=False, audio=False), "source_test", 0)
    assert record.flow == [] and record.audio == b""


@pytest.mark.parametrize("wrong", [
    {"height": 16}, {"splits": ["train"]}, {"shifts": ("fog",)}, {"actors": (1, 3)},
    {"differs": (0, 0, 0, 0, 0)}, {"differs": (1, 1)}, {"drift": 2.0}, {"train": 0}, {"fps": 0},
    {"look_alikes": "size"}, {"scale": 3.0}, {"light": 2.1}, {"placed": 1.1},
])
def test_invalid_options_are_rejected(wrong):
    with pytest.raises(ValueError, match=r"moving_shapes: .*"):
        Options(**wrong)


def _scene(*motions: tuple[str, np.ndarray]) -> Scene:
    appearances = tuple(Appearance("red", shape, "small", "plain", "left") for shape, _ in motions)
    paths = tuple(Path(np.stack([x, np.full(16, 30.0)], -1), np.zeros(16), np.full(16, 8.0))
                  for _, x in motions)
    order, distractors = tuple(range(len(motions))), (-1,) * len(motions)
    return Scene(appearances, paths, order, np.zeros(2), distractors)


def test_only_the_audio_tells_look_alikes_apart():
    options = dataclasses.replace(SMALL, length=16, look_alikes="category")
    sounding_categories, discs = set(), 0
    for i in range(25):
        record = make_record(options, "source_train", i)
        scene, rendering, visible = make_clip(options, "source_train", i)
        kinds = {o.id: o.category for o in record.objects}
        [sounding] = [k for k, kind in kinds.items() if kind != "circle"]
        assert sorted(visible) == [0, 1] and record.expressions == []
        one, other = (dataclasses.replace(appearance, shape="", motion="", size="")
                      for appearance in scene.appearances)
        assert one == other
        sizes = [scene.appearances[k].size for k in (sounding - 1, 2 - sounding)]
        assert sizes == ["large", "small"]
        sounding_categories.add(kinds[sounding])
        audio = records.decode_audio(record.audio, "a test")
        assert abs(_loudest(audio) - TONES[kinds[sounding]]) < 8
        # Both are drawn as discs, where they do not touch each other or the border.
        first, second = scene.paths
        apart = np.linalg.norm(first.center - second.center, axis=1) > 2.5 * first.radius[0]
        for k, path in enumerate(scene.paths):
            inside = (np.abs(path.center - [32, 24]) < np.array([32, 24]) - path.radius[0]).all(1)
            for t in np.flatnonzero(apart & inside):
                pixels = (rendering.masks[t] == k + 1).sum()
                discs += 1
                assert pixels == pytest.approx(np.pi * path.radius[t] ** 2, rel=0.2)
    assert len(sounding_categories) >= 5 and discs > 100
    plain = make_clip(SMALL, "source_train", 0)[0]
    silent = make_clip(dataclasses.replace(SMALL, audio=False), "source_train", 0)[0]
    assert plain.appearances == silent.appearances
    with pytest.raises(ValueError, match="only audio tells look_alikes apart; keep audio=True"):
        dataclasses.replace(options, audio=False)


def test_only_who_moves_while_it_sounds_tells_which_of_two_look_alikes():
    options = dataclasses.replace(SMALL, length=13, fps=8.0, look_alikes="which")
    numbers, firsts = set(), 0
    for i in range(20):
        record = make_record(options, "source_train", i)
        scene = make_clip(options, "source_train", i)[0]
        kinds = [o.category for o in record.objects]
        [sounding] = [k for k, kind in enumerate(kinds) if kind != "circle"]
        one, other = (dataclasses.replace(a, shape="", motion="") for a in scene.appearances)
        assert one == other and scene.silent == (1 - sounding,) and record.expressions == []
        numbers.add(sounding)
        # By frame: does it move from this frame to the next, relative to the background?
        moves = np.stack([np.linalg.norm(np.diff(path.center, axis=0) - scene.drift, axis=1) > 1e-6
                          for path in scene.paths])
        assert (moves[0] != moves[1]).all() and moves[0, :3].all() and not moves[0, 3:6].any()
        audio = records.decode_audio(record.audio, "a test").reshape(13, 2000)[:12]
        loud = np.abs(audio[:, 500:1500]).max(1) > 0.02
        assert (loud == moves[sounding])[[1, 4, 7, 10]].all()   # amid a turn
        assert abs(_loudest(audio.ravel()) - TONES[kinds[sounding]]) < 8
        firsts += sounding == 0
    assert numbers == {0, 1} and 3 < firsts < 17


def _loudest(audio: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    return spectrum.argmax() * 16000 / len(audio)


def test_an_actor_makes_the_tone_of_its_category_while_it_moves():
    first_half = np.concatenate([np.linspace(10, 50, 8), np.full(8, 50.0)])
    audio = mix(_scene(("heart", first_half), ("circle", np.full(16, 20.0))), fps=8.0)
    assert audio.dtype == np.float32 and audio.shape == (32000,) and np.abs(audio).max() < 1
    moving, resting = audio[2000:13000], audio[19000:]
    assert abs(_loudest(moving) - TONES["heart"]) < 3
    assert np.abs(resting).max() < 1e-6 < np.abs(moving).max()


def test_an_actor_that_only_drifts_with_the_camera_is_silent():
    scene = _scene(("star", np.linspace(10, 13, 16)))
    scene = dataclasses.replace(scene, drift=np.array([0.2, 0.0]))
    assert not mix(scene, fps=8.0).any()


def test_a_mixture_holds_both_tones():
    way = np.linspace(10, 50, 16)
    audio = mix(_scene(("ring", way), ("circle", way)), fps=8.0)
    spectrum = np.abs(np.fft.rfft(audio))
    peak = {shape: spectrum[round(TONES[shape] * 2) - 2:round(TONES[shape] * 2) + 3].max()
            for shape in SHAPES}
    assert min(peak["ring"], peak["circle"]) > 10 * max(
        peak[s] for s in SHAPES if s not in ("ring", "circle"))
