import dataclasses
import pickle

import numpy as np
import pytest
from toy_dataset import COLORS, ToyBuilder, toy_record

from vseg_jax.input_pipeline.audio import frame_patches, log_mel
from vseg_jax.input_pipeline.builders.moving_shapes import Builder, Options
from vseg_jax.input_pipeline.instances import InstanceSamples
from vseg_jax.input_pipeline.loader import eval_batches, train_batches
from vseg_jax.input_pipeline.records import (
    Category,
    Object,
    decode_audio,
    encode_audio,
    encode_mask,
    open_dataset,
)
from vseg_jax.input_pipeline.settings import ClipConfig, InstanceConfig

CLIP = ClipConfig(height=24, width=32)
BOXES = InstanceConfig(references=2, objects=3, categories=("lamp", "box"))


class _Listed(ToyBuilder):
    name = "listed"

    def splits(self):
        return {"train": self.options}


class _WithCategories(_Listed):
    def categories(self):
        return [Category(7, "box"), Category(3, "lamp")]


def built(folder, *records, builder=_Listed):
    return open_dataset(builder("", folder, records).build(), "train")


def samples_of(dataset, clip=CLIP, instances=BOXES, **options):
    return InstanceSamples(dataset, clip, instances, **({"train": False} | options))


@pytest.fixture(scope="module")
def toys(toy_dir):
    """Three clips of six frames, every other one annotated: red green, blue red green, blue."""
    return open_dataset(toy_dir, "train")


def test_a_target_frame_and_the_frames_before_it(toys):
    samples = samples_of(toys)
    assert len(samples) == 3 * 3
    sample = samples[5]  # second video, frame 4
    assert sample["frames"].shape == (3, 24, 32, 3)
    np.testing.assert_array_equal(sample["masks_valid"], [True, False, True])
    assert sample["frames_valid"].all()
    assert (sample["masks"][1] == 255).all()
    for t, frame in ((0, 2), (2, 4)):  # rectangles of three colors, at known places
        for slot, (name, left) in enumerate((("blue", 2 + frame), ("red", 24 - frame),
                                             ("green", 2 + frame)), 1):
            there = (sample["frames"][t] == COLORS[name]).all(-1)
            np.testing.assert_array_equal(sample["masks"][t] == slot, there)
            assert there[8 * slot - 7, left] and there.sum() == 36
    np.testing.assert_array_equal(sample["classes"], [1, 1, 1])
    np.testing.assert_array_equal(sample["ids"], [1, 2, 3])
    np.testing.assert_array_equal(sample["visible"], [[True] * 3, [False] * 3, [True] * 3])
    assert (int(sample["video"]), int(sample["sample"]), bool(sample["valid"])) == (1, 5, True)
    assert "audio" not in sample
    with pytest.raises(IndexError):
        samples[9]


def test_the_first_frame_is_repeated_before_the_start(toys):
    sample = samples_of(toys)[0]
    np.testing.assert_array_equal(sample["frames_valid"], [False, False, True])
    np.testing.assert_array_equal(sample["frames"][0], sample["frames"][2])
    np.testing.assert_array_equal(sample["masks"][0], sample["masks"][2])
    np.testing.assert_array_equal(sample["objects"], [True, True, False])
    np.testing.assert_array_equal(sample["ids"], [1, 2, 0])
    np.testing.assert_array_equal(sample["classes"], [1, 1, 0])
    alone = samples_of(toys, instances=dataclasses.replace(BOXES, references=0))[0]
    np.testing.assert_array_equal(alone["frames"], sample["frames"][2:])


def test_training_clips_can_have_random_steps(toys):
    apart = dataclasses.replace(BOXES, gap=(2, 3))
    samples = samples_of(toys, instances=apart, train=True)
    seen = set()
    for k in range(20):
        sample = samples.sample(2, np.random.default_rng(k), 0)   # frame 4 of the first video
        # The red rectangle of frame t is in the columns from 2 + t on.
        lefts = [int(np.nonzero((frame == COLORS["red"]).all(-1))[1].min())
                 for frame in sample["frames"]]
        steps = 4 + 2 - lefts[0], 4 + 2 - lefts[1]
        seen.add((*steps, *sample["frames_valid"].tolist()))
    assert seen == {(4, 2, True, True, True), (4, 3, False, True, True),
                    (4, 2, False, True, True)}, "the first frame stands in for those before it"
    still = samples_of(toys, instances=apart)[2]
    np.testing.assert_array_equal(still["frames"], samples_of(toys)[2]["frames"])


def _three(visible_now=(1, 2, 3), kinds=("box", "box", "box")):
    """Frame 0 shows the objects 1, 2 and 3, frame 1 those asked for."""
    record = toy_record(0, ("red", "green", "blue"), length=2, annotate_every=1)
    record.objects = [Object(k + 1, kind) for k, kind in enumerate(kinds)]
    mask = np.zeros((24, 32), np.uint8)
    for k in visible_now:
        mask[8 * k - 7:8 * k - 1, 3:9] = k
    record.masks[1] = encode_mask(mask)
    return record


def test_more_objects_than_slots(tmp_path):
    dataset = built(tmp_path, _three(visible_now=(2, 3)))
    two = InstanceConfig(references=1, objects=2, categories=("box",))
    sample = samples_of(dataset, instances=two)[1]
    np.testing.assert_array_equal(sample["ids"], [2, 3])  # those of the target frame first
    assert set(np.unique(sample["masks"][0])) == {0, 1, 2, 255}  # the third is void, no background
    assert (sample["masks"][0] == 255).sum() == 36
    one = dataclasses.replace(two, objects=1)
    assert samples_of(dataset, instances=one)[1]["ids"] == [2]
    train = samples_of(dataset, instances=one, train=True)
    drawn = [int(train.sample(1, np.random.default_rng(k), 0)["ids"][0]) for k in range(30)]
    assert set(drawn) == {2, 3} and 5 < drawn.count(2) < 25


def test_objects_that_a_crop_cuts_away_have_no_slot(tmp_path):
    samples = samples_of(built(tmp_path, _three()), ClipConfig(height=24, width=32, crop=0.3),
                         train=True)
    numbers = set()
    for k in range(30):
        sample = samples.sample(1, np.random.default_rng(k), 0)
        shown = set(np.unique(sample["masks"][sample["masks_valid"]]).tolist()) - {0, 255}
        assert shown == set((np.flatnonzero(sample["objects"]) + 1).tolist())
        assert (sample["visible"].any(0) == sample["objects"]).all()
        numbers.add(len(shown))
    assert {2, 3} <= numbers, "crops with fewer objects than the video has"


def test_objects_of_other_categories_are_background(tmp_path):
    dataset = built(tmp_path, _three(kinds=("box", "cup", "lamp")))
    sample = samples_of(dataset)[1]
    np.testing.assert_array_equal(sample["ids"], [1, 3, 0])
    np.testing.assert_array_equal(sample["classes"], [1, 0, 0])
    assert set(np.unique(sample["masks"][-1])) == {0, 1, 2}
    cups = InstanceConfig(categories=("cup",))
    assert samples_of(dataset, instances=cups)[0]["ids"][0] == 2
    with pytest.raises(ValueError, match="no frame that shows an object of the categories dog, ca"):
        samples_of(dataset, instances=InstanceConfig(categories=("dog", "cat")))


def test_categories_of_the_dataset(tmp_path, toys):
    dataset = built(tmp_path, _three(), builder=_WithCategories)
    assert dataset.categories == (Category(3, "lamp"), Category(7, "box"))
    samples = samples_of(dataset, instances=InstanceConfig())
    assert samples.categories == ("lamp", "box")  # by id
    assert samples[0]["classes"][0] == 1
    with pytest.raises(ValueError, match="toy train does not list its categories; name them"):
        samples_of(toys, instances=InstanceConfig())


def test_one_geometry_and_color_for_the_clip(toys):
    clip = dataclasses.replace(CLIP, crop=0.5, flip=0.5, color=0.4, resize="pad", height=30)
    samples = samples_of(toys, clip, train=True)
    flips = 0
    for k in range(12):
        sample = samples.sample(1, np.random.default_rng(k), 0)  # frame 2 of the first video
        frames, masks = sample["frames"], sample["masks"]
        assert (masks[:, 25:] == 255).all() and (frames[:, 25:] == 0).all()
        assert (masks[2] == 1).any() or (masks[2] == 2).any()  # a pixel of an object
        scale_y, scale_x, offset_y, offset_x = sample["geometry"]
        flips += scale_x < 0
        # the red rectangle, columns 2 + t to 8 + t of rows 1 to 7, where the geometry says
        for t, frame in ((0, 0), (2, 2)):
            x = np.sort(np.array([2 + frame, 8 + frame]) * scale_x + offset_x)
            y = np.array([1, 7]) * scale_y + offset_y
            seen = (masks[t] == 1) & (sample["ids"][0] == 1)
            rows, columns = np.nonzero(seen)
            if len(rows):
                assert abs(columns.min() - max(x[0], 0)) <= 1
                assert abs(rows.min() - max(y[0], 0)) <= 1
                red = frames[t][seen].mean(0)
                assert red[0] > red[1] + 20
        np.testing.assert_array_equal(
            sample["visible"], [[(m == slot).any() for slot in (1, 2, 3)] for m in masks])
    assert 0 < flips < 12
    again = [samples.sample(1, np.random.default_rng(3), 0)["frames"] for _ in range(2)]
    np.testing.assert_array_equal(*again)
    np.testing.assert_array_equal(samples[4]["frames"], samples[4]["frames"])


def test_a_still_becomes_a_clip_in_training(tmp_path):
    still = toy_record(0, ("red", "green"), length=1)
    dataset = built(tmp_path, still)
    plain = samples_of(dataset)[0]
    np.testing.assert_array_equal(plain["frames_valid"], [False, False, True])
    sample = samples_of(dataset, train=True)[0]
    assert sample["frames_valid"].all() and sample["masks_valid"].all()
    frames, masks = sample["frames"].astype(int), sample["masks"]
    np.testing.assert_array_equal(frames[2], plain["frames"][2])  # the target stays
    for a, b in ((0, 1), (1, 2)):
        assert np.abs(frames[a] - frames[b]).max() > 50
    for frame, mask in zip(frames, masks, strict=True):  # masks move with their objects
        red, green = (frame[mask == slot].mean(0) for slot in (1, 2))
        assert red[0] > red[1] + 80 and green[1] > green[0] + 80


def test_audio(tmp_path):
    tone = decode_audio(encode_audio(np.sin(np.arange(32000) / 9)), "a test")
    loud = dataclasses.replace(_three(), audio=encode_audio(tone), fps=1.0)
    unknown = dataclasses.replace(_three(), video_id="no rate", audio=loud.audio, fps=0.0)
    silent = dataclasses.replace(_three(), video_id="silent")
    dataset = built(tmp_path, loud, unknown, silent)
    samples = samples_of(dataset, instances=dataclasses.replace(BOXES, uses_audio=True))
    sample = samples[1]
    assert sample["audio"].shape == (3, 96, 64) and sample["audio"].dtype == np.float32
    assert sample["audio_valid"].all()
    np.testing.assert_allclose(sample["audio"][2], log_mel(tone[-15600:]), atol=1e-6)
    np.testing.assert_allclose(sample["audio"][1], frame_patches(tone, [0], 1.0)[0], atol=1e-6)
    np.testing.assert_array_equal(sample["audio"][0], sample["audio"][1])  # the repeated frame's
    np.testing.assert_array_equal(samples[3]["audio"], sample["audio"])  # two frames, two seconds
    assert not samples[4]["audio_valid"].any()
    np.testing.assert_allclose(samples[4]["audio"], np.log(0.01), rtol=1e-6)


def test_batches_and_moving_shapes(tmp_path):
    options = Options(height=32, width=32, length=4, train=2, test=1, splits=("source_train",),
                      flow=False)
    dataset = open_dataset(Builder("", tmp_path, options).build(), "source_train")
    assert [c.name for c in dataset.categories][:2] == ["circle", "square"]
    config = InstanceConfig(references=1, objects=6, uses_audio=True)
    samples = pickle.loads(pickle.dumps(samples_of(dataset, instances=config, train=True)))
    batch = next(train_batches(samples, 3, seed=1))
    assert batch["frames"].shape == (3, 2, 24, 32, 3) and batch["audio"].shape == (3, 2, 96, 64)
    assert batch["audio_valid"].all()
    for number, ids, classes in zip(batch["video"], batch["ids"], batch["classes"], strict=True):
        kinds = {o.id: o.category for o in dataset.index[number].objects}
        for k, c in zip(ids[ids > 0], classes, strict=False):
            assert samples.categories[c] == kinds[k]
    last = list(eval_batches(samples_of(dataset, instances=config), 3))[-1]
    np.testing.assert_array_equal(last["valid"], [True, True, False])


@pytest.mark.parametrize("wrong, message", [
    ({"references": -1}, "references is -1"), ({"objects": 255}, "objects is 255"),
    ({"categories": ("a", "a")}, "categories is .* must be distinct names"),
    ({"gap": (0, 2)}, "gap is"), ({"gap": (3, 2)}, "gap is"),
])
def test_bad_settings(wrong, message):
    with pytest.raises(ValueError, match=message):
        InstanceConfig(**wrong)
