import dataclasses
import pickle

import numpy as np
import pytest
from painted import one_video, painted

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.clips import propagation_frames
from vseg_jax.input_pipeline.loader import train_batches
from vseg_jax.input_pipeline.propagation import PropagationSamples
from vseg_jax.input_pipeline.records import decode_image, encode_image, open_dataset
from vseg_jax.input_pipeline.settings import ClipConfig, PropagationConfig
from vseg_jax.input_pipeline.transforms import (
    random_affine,
    scaling,
    translation,
    warp_frame,
    warp_mask,
)

CLIP = ClipConfig(height=24, width=32)
CONFIG = PropagationConfig(objects=2)


@pytest.fixture(scope="module")
def toy(toy_dir):
    return open_dataset(toy_dir, "train")


def boxes(shape=(48, 64), count=4, frames=4):
    """Masks of boxes of 8x8 with ids 1 .. count, on a diagonal."""
    mask = np.zeros(shape, np.uint8)
    for k in range(count):
        mask[2 + 11 * k:10 + 11 * k, 4 + 14 * k:12 + 14 * k] = k + 1
    return [mask] * frames


# --- which frames -----------------------------------------------------------------------------


def test_gaps_grow_with_the_skip_and_frames_stay_in_order():
    annotated = list(range(60))
    for skip in (0, 3, 25):
        rng = np.random.default_rng(0)
        taken = np.array([
            propagation_frames(annotated, range(58), 3, skip, rng) for _ in range(400)
        ])
        gaps = np.diff(taken, axis=1)
        assert gaps.min() == 1 and gaps.max() == skip + 1 and taken.max() <= 59
    assert set(gaps[taken[:, 0] == 0].ravel()) <= set(range(1, 27))


def test_a_skip_is_counted_in_frames_of_the_video():
    annotated = list(range(0, 100, 5))
    for skip, longest in ((4, 5), (5, 10), (24, 25)):
        rng = np.random.default_rng(1)
        taken = np.array([
            propagation_frames(annotated, range(18), 3, skip, rng) for _ in range(300)
        ])
        assert np.diff(taken, axis=1).min() == 5 and np.diff(taken, axis=1).max() == longest


def test_the_skip_grows_by_one_every_so_many_clips(toy):
    config = PropagationConfig(skip_start=1, skip_max=4, skip_every=100)
    single = PropagationSamples(toy, CLIP, config, train=True)
    skips = [single.longest_skip(step) for step in (0, 99, 100, 250, 300, 10**6)]
    assert skips == [1, 1, 2, 3, 4, 4]
    batches = PropagationSamples(toy, CLIP, config, train=True, batch_size=8)
    skips = [batches.longest_skip(step) for step in (0, 12, 13, 24, 25, 38, 10**6)]
    assert skips == [1, 1, 2, 2, 3, 4, 4]   # 13 * 8 = 104 clips, 25 * 8 = 200


def test_the_step_reaches_the_frames_that_are_taken(tmp_path):
    frames = [np.full((16, 16), 1, np.uint8) for _ in range(12)]
    record = painted(frames, (1,))
    record.frames = [encode_image(np.full((16, 16, 3), 20 * t, np.uint8)) for t in range(12)]
    config = PropagationConfig(skip_every=10, skip_max=5)
    samples = PropagationSamples(one_video(tmp_path, record), CLIP, config, train=True)
    rng = np.random.default_rng(0)

    def gaps(step):
        clips = [samples.sample(0, rng, step)["frames"][:, 0, 0, 0] // 20 for _ in range(40)]
        return np.diff(np.array(clips, int), axis=1)

    assert set(gaps(0).ravel()) == {1}
    assert gaps(50).max() == 6


# --- slots ------------------------------------------------------------------------------------


def test_a_sample_has_the_form_of_the_task(toy):
    sample = PropagationSamples(toy, CLIP, CONFIG, train=True)[0]
    assert {k: (v.shape, v.dtype) for k, v in sample.items()} == {
        "frames": ((3, 24, 32, 3), np.uint8), "masks": ((3, 24, 32), np.uint8),
        "masks_valid": ((3,), bool), "objects": ((2,), bool), "video": ((), np.int32),
        "sample": ((), np.int32), "valid": ((), bool),
    }
    assert sample["masks_valid"].all() and sample["valid"]


def test_ids_become_slots_and_those_beyond_are_background(tmp_path):
    masks = [np.where(m == 4, VOID, m * 3).astype(np.uint8) for m in boxes()]
    masks[1] = masks[1].copy()
    masks[1][40:, :10] = 12  # an object that comes later
    dataset = one_video(tmp_path, painted(masks, (3, 6, 9, 12), red=7))
    sample = PropagationSamples(dataset, ClipConfig(height=48, width=64),
                                PropagationConfig(objects=4), train=False)[0]
    expected = masks[0] // 3
    expected[masks[0] == VOID] = VOID
    np.testing.assert_array_equal(sample["masks"], [expected] * 3)
    assert list(sample["objects"]) == [True, True, True, False]

    samples = PropagationSamples(dataset, ClipConfig(height=48, width=64), CONFIG, train=True)
    drawn = set()
    for k in range(40):
        sample = samples.sample(0, np.random.default_rng(k), 0)
        present = set(np.unique(sample["masks"][0])) - {0, VOID}
        assert present == set(np.flatnonzero(sample["objects"]) + 1) != set()
        assert set(np.unique(sample["masks"])) - {0, VOID} <= present
        # which object a slot is: its color, where the warp did not blend it
        for slot in present:
            red = sample["frames"][0][..., 0][sample["masks"][0] == slot]
            if len(red) > 30:
                drawn.add(round(float(np.median(red)), -1))
    assert drawn == {20, 40, 60, 80}  # each of them is chosen at times


def test_the_first_frame_always_shows_an_object(tmp_path):
    mask = np.zeros((60, 90), np.uint8)
    mask[56:60, 87:90] = 1  # in a corner, where a crop or a turn loses it first
    later = np.zeros_like(mask)
    dataset = one_video(tmp_path, painted([later, mask, later, later, mask], (1,)))
    for stills in (0.0, 1.0):
        samples = PropagationSamples(
            dataset, ClipConfig(height=32, width=32),
            PropagationConfig(stills=stills, rotate=180, translate=0.5, skip_start=1), train=True,
        )
        for k in range(60):
            sample = samples.sample(0, np.random.default_rng(k), 0)
            assert sample["valid"] and sample["objects"][0] and (sample["masks"][0] == 1).any()


def test_a_sample_without_an_object_is_marked(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[0, 0] = 1  # lost between the pixels of a frame of an eighth
    dataset = one_video(tmp_path, painted([mask] * 3, (1,)))
    sample = PropagationSamples(dataset, ClipConfig(height=8, width=8), CONFIG, train=False)[0]
    assert not sample["valid"] and not sample["objects"].any()


# --- geometry ---------------------------------------------------------------------------------


def test_frames_and_masks_move_together(tmp_path):
    dataset = one_video(tmp_path, painted(boxes(count=1), (1,)))
    config = PropagationConfig(objects=1, zoom=(1.5, 2.0))
    samples = PropagationSamples(dataset, ClipConfig(height=64, width=80), config, train=True)
    for k in range(20):
        sample = samples.sample(0, np.random.default_rng(k), 0)
        red = sample["frames"][..., 0] > 25  # half of the object's 50
        differ = red != (sample["masks"] == 1)
        assert differ.sum() < 0.12 * red.sum()  # nearest against linear, along the outline


def test_pixels_are_counted_from_their_edges():
    rgb = np.zeros((2, 4, 3), np.uint8)
    rgb[0, 0] = 200
    doubled = warp_frame(rgb, scaling(2, 2), (4, 8))
    mask = warp_mask(rgb[..., 0] // 200, scaling(2, 2), (4, 8))
    np.testing.assert_array_equal(mask, np.pad(np.ones((2, 2)), ((0, 2), (0, 6))))
    assert doubled[0, 0, 0] == 200 and doubled[1, 1, 0] < 200 and doubled[0, 4, 0] == 0
    mirror = translation(0, 4) @ scaling(1, -1)
    np.testing.assert_array_equal(warp_frame(rgb, mirror, (2, 4)), rgb[:, ::-1])
    beyond = warp_frame(rgb, translation(0, 1), (2, 4))  # the border is mirrored
    assert beyond[0, 0, 0] == beyond[0, 1, 0] == 200


def test_frames_that_shrink_are_averaged():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::4] = 200
    small = warp_frame(stripes, scaling(0.25, 0.25), (8, 8))
    np.testing.assert_array_equal(small, np.full((8, 8, 3), 50))


def test_an_affine_change_keeps_the_center_and_its_bounds():
    rng = np.random.default_rng(0)
    turned = PropagationConfig(rotate=30.0, shear=0.0, translate=0.0, scale=(1.0, 1.0))
    angles = []
    for _ in range(200):
        matrix = random_affine(turned, 40, 60, rng)
        np.testing.assert_allclose(matrix @ (30, 20, 1), (30, 20, 1), atol=1e-9)
        angles.append(np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0])))
    assert 25 < np.abs(angles).max() <= 30
    assert 60 < np.sum(np.array(angles) == 0) < 140  # it takes part in half of them


def test_all_frames_of_a_mirrored_clip_are_mirrored(tmp_path):
    masks = boxes((24, 32), 2)
    still = {"rotate": 0, "shear": 0, "translate": 0, "scale": (1, 1), "zoom": (1, 1)}
    dataset = one_video(tmp_path, painted(masks, (1, 2)))
    samples = PropagationSamples(dataset, CLIP, PropagationConfig(flip=1.0, **still), train=True)
    sample = samples[0]
    np.testing.assert_array_equal(sample["masks"], np.stack(masks[:3])[:, :, ::-1])
    rgb = decode_image(dataset[0].frames[0], "synthetic")
    np.testing.assert_array_equal(sample["frames"][0], rgb[:, ::-1])


def test_a_damaged_frame_is_named(tmp_path):
    record = painted(boxes(), (1, 2, 3, 4))
    record.frames[0] = record.frames[0][:50]
    samples = PropagationSamples(one_video(tmp_path, record), CLIP, CONFIG, train=False)
    with pytest.raises(ValueError, match="synthetic train video painted frame 0 cannot be decoded"):
        samples[0]


# --- batches ----------------------------------------------------------------------------------


def take(iterator, count):
    return [{k: np.array(v) for k, v in next(iterator).items()} for _ in range(count)]


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.fixture(scope="module")
def mixture(toy):
    config = dataclasses.replace(CONFIG, skip_every=2, color=0.2)
    small = ClipConfig(height=16, width=16)
    return [(PropagationSamples(toy, small, config, train=True), 3.0),
            (PropagationSamples(toy, small, dataclasses.replace(config, stills=1.0), train=True),
             1.0)]


def test_mixtures_are_the_same_for_any_workers_and_resume_exactly(mixture):
    iterator = train_batches(mixture, 4, seed=1)
    batches = take(iterator, 6)
    state = iterator.get_state()
    following = take(iterator, 4)  # the skip grows here: the step is part of the place
    again = train_batches(mixture, 4, seed=1)
    again.set_state(state)
    assert_same(following, take(again, 4))
    workers = train_batches(mixture, 4, seed=1, workers=1)
    assert_same(batches, take(workers, 6))
    assert type(next(workers)["frames"]) is np.ndarray  # no memory shared with a worker
    workers.close()
    for process in range(2):
        share = take(train_batches(mixture, 4, seed=1, process_index=process, process_count=2), 6)
        for whole, part in zip(batches, share, strict=True):
            np.testing.assert_array_equal(whole["frames"][process::2], part["frames"])


def test_clips_grow_at_a_step_and_resume_there(toy):
    """Toy videos have four annotated frames, of which a clip takes two and then three."""
    config = dataclasses.replace(CONFIG, length=2, final_length=3, final_from=2)
    samples = PropagationSamples(toy, ClipConfig(height=16, width=16), config, train=True)
    assert [samples.length(step) for step in (0, 1, 2, 10**6)] == [2, 2, 3, 3]
    iterator = train_batches(samples, 4, seed=1)
    batches = take(iterator, 2)
    state = iterator.get_state()
    batches += take(iterator, 2)
    assert [batch["frames"].shape[:2] for batch in batches] == [(4, 2), (4, 2), (4, 3), (4, 3)]
    again = train_batches(samples, 4, seed=1)
    again.set_state(state)
    assert_same(batches[2:], take(again, 2))
    plain = PropagationSamples(toy, CLIP, config, train=False)[0]
    assert plain["frames"].shape[0] == 2


class Echo:
    """Samples that return their arguments."""

    def __init__(self, name):
        self.name = name

    def __len__(self):
        return 50

    def __getitem__(self, i):
        raise NotImplementedError

    def sample(self, i, rng, step):
        return {"name": np.int32(self.name), "i": np.int32(i), "step": np.int32(step),
                "drawn": rng.random()}


def test_a_mixture_keeps_its_shares_and_every_batch_its_step():
    iterator = train_batches([(Echo(0), 0.92), (Echo(1), 0.08)], 5, seed=0)
    batches = take(iterator, 150)
    names = np.concatenate([b["name"] for b in batches])
    assert np.mean(names == 1) == pytest.approx(0.08)
    for k, batch in enumerate(batches):
        assert (batch["step"] == k).all()
    drawn = np.concatenate([b["drawn"] for b in batches])
    assert len(np.unique(drawn)) == 750
    numbers = np.concatenate([b["i"] for b in batches])
    assert sorted(numbers[names == 1][:50]) == list(range(50))  # each set goes round by itself


@pytest.mark.parametrize("samples", [[], [(Echo(0), 1.0), (Echo(1), 0.0)]])
def test_invalid_weights(samples):
    with pytest.raises(ValueError, match="weights above 0"):
        train_batches(samples, 2)


def test_samples_can_be_pickled(mixture):
    samples = pickle.loads(pickle.dumps(mixture[0][0]))
    assert_same([samples[0]], [mixture[0][0][0]])


@pytest.mark.parametrize("change, message", [
    ({"length": 1}, "length is 1"), ({"objects": 0}, "objects is 0"),
    ({"skip_start": 30}, "skip_start is 30"), ({"stills": 1.5}, "stills is 1.5"),
    ({"unpasted": -1}, "unpasted is -1"), ({"smallest": 2}, "smallest is 2"),
    ({"final_length": 1}, "final_length is 1"), ({"final_from": -1}, "final_from is -1"),
    ({"stills_zoom": (2, 1)}, "stills_zoom is"), ({"zoom": (0.5, 1)}, "zoom is"),
    ({"scale": (1.2, 0.8)}, "scale is"),
])
def test_invalid_settings(change, message):
    with pytest.raises(ValueError, match=message):
        PropagationConfig(**change)
