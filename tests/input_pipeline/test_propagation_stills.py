"""Training clips of mask propagation that repeat a still image."""

import dataclasses

import numpy as np
import pytest
from painted import one_video, painted
from toy_dataset import toy_record

from vseg_jax.input_pipeline.builders import prepare
from vseg_jax.input_pipeline.propagation import PropagationSamples
from vseg_jax.input_pipeline.records import open_dataset
from vseg_jax.input_pipeline.settings import ClipConfig, PropagationConfig

CLIP = ClipConfig(height=24, width=32)
CONFIG = PropagationConfig(objects=2)


@pytest.fixture(scope="module")
def toy(toy_dir):
    return open_dataset(toy_dir, "train")


def objects_of_clips(folder, **settings):
    """How many objects each of 200 clips of a still with two objects shows, of large ones."""
    own, other = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    own[4:28, 4:28], own[36:60, 36:60] = 1, 2
    other[16:48, 16:48] = 1
    dataset = one_video(folder, painted([own], (1, 2), "own"),
                        other=painted([other], (1,), "other"))
    still = {"rotate": 0, "shear": 0, "translate": 0, "scale": (1, 1), "zoom": (1, 1),
             "stills_zoom": (1, 1)}
    samples = PropagationSamples(dataset, ClipConfig(height=64, width=64),
                                 PropagationConfig(stills=1.0, **still, **settings), train=True)
    return [samples.sample(0, np.random.default_rng(k), 0)["objects"].sum() for k in range(200)]


def test_half_of_the_clips_of_stills_show_their_own_objects_alone(tmp_path):
    assert set(objects_of_clips(tmp_path / "a", unpasted=1.0)) == {2}
    several = np.array(objects_of_clips(tmp_path / "b"))
    assert 0.3 < np.mean(several > 2) < 0.5   # a pasted object may cover one, or lie outside
    assert np.mean(np.array(objects_of_clips(tmp_path / "c", unpasted=0.0)) > 2) > 0.6


def test_stills_have_a_zoom_of_their_own(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[16:24, 16:24] = 1
    dataset = one_video(tmp_path, painted([mask] * 3, (1,)))
    still = {"rotate": 0, "shear": 0, "translate": 0, "scale": (1, 1), "zoom": (3, 3)}

    def area(**settings):
        config = PropagationConfig(unpasted=1.0, smallest=0.0, **still, **settings)
        samples = PropagationSamples(dataset, ClipConfig(height=40, width=40), config, train=True)
        return int((samples[0]["masks"][0] == 1).sum())

    assert area(stills=0.0) == 24 * 24
    assert area(stills=1.0, stills_zoom=(2, 2)) == 16 * 16
    assert area(stills=1.0) == 10 * 10   # 8 pixels times 1.25


def test_very_small_objects_of_stills_are_background(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[4:24, 4:24], mask[30:34, 30:34] = 1, 2   # 400 and 16 of 1600 pixels
    dataset = one_video(tmp_path, painted([mask] * 3, (1, 2)))
    still = {"rotate": 0, "shear": 0, "translate": 0, "scale": (1, 1), "zoom": (1, 1),
             "stills_zoom": (1, 1)}

    def shown(i=0, **settings):
        config = PropagationConfig(unpasted=1.0, **still, **settings)
        sample = PropagationSamples(dataset, ClipConfig(height=40, width=40), config, train=True)[i]
        return [int((sample["masks"][0] == slot).sum()) for slot in (1, 2)]

    assert shown(stills=1.0, smallest=0.0) == [400, 16]
    assert shown(stills=1.0, smallest=16 / 1600) == [400, 0]
    assert shown(stills=1.0, smallest=0.9) == [400, 16], "where all are small, none is dropped"
    assert shown(stills=0.0, smallest=16 / 1600) == [400, 16], "videos keep theirs"


def test_stills_get_objects_of_another_video_in_their_own_slots(tmp_path):
    own, other = np.zeros((48, 64), np.uint8), np.zeros((48, 64), np.uint8)
    own[20:28, 4:16] = 1
    other[10:30, 10:40] = 4
    dataset = one_video(tmp_path, painted([own], (1,), "own"),
                        other=painted([other], (4,), "other"))
    samples = PropagationSamples(dataset, ClipConfig(height=48, width=64),
                                 PropagationConfig(stills=1.0, unpasted=0.0), train=True)
    assert len(samples) == 2  # a single annotated frame is enough
    pasted = 0
    for k in range(20):
        sample = samples.sample(0, np.random.default_rng(k), 0)
        slots = np.unique(sample["masks"])
        assert sample["masks"].shape == (3, 48, 64) and 2 <= len(slots) <= 5
        for slot in slots[1:]:
            red = sample["frames"][..., 0][sample["masks"] == slot]
            if len(red) > 150:
                assert min(abs(np.median(red) - 50), abs(np.median(red) - 200)) < 4
                pasted += np.median(red) > 100
        assert (sample["masks"][0] != sample["masks"][1]).any()  # each place moves by itself
    assert pasted >= 20


def test_a_share_of_the_clips_comes_from_stills(toy):
    config = dataclasses.replace(CONFIG, stills=0.25, unpasted=0.0, smallest=0.0, skip_max=0)
    samples = PropagationSamples(toy, CLIP, config, train=True)
    several = 0
    for k in range(60):
        objects = samples.sample(2, np.random.default_rng(k), 0)["objects"]  # one of its own
        several += objects.sum() > 1
    assert 6 < several < 24


def test_videos_with_too_few_annotated_frames(tmp_path):
    short = one_video(tmp_path, toy_record(0, length=3))  # annotated: 0 and 2
    with pytest.raises(ValueError, match="no video of synthetic train has 3 annotated frames"):
        PropagationSamples(short, CLIP, CONFIG, train=True)
    stills = PropagationSamples(short, CLIP, dataclasses.replace(CONFIG, stills=0.1), train=True)
    assert stills[0]["valid"] and len(stills) == 1
    pair = PropagationSamples(short, CLIP, dataclasses.replace(CONFIG, length=2), train=True)
    assert pair[0]["frames"].shape[0] == 2


def test_images_among_videos_are_always_stills(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 1
    dataset = one_video(tmp_path, painted([mask], (1,), "image"), video=painted([mask] * 4, (1,)))
    samples = PropagationSamples(dataset, CLIP, CONFIG, train=True)   # no share of stills
    assert len(samples) == 2 and samples[0]["frames"].shape[0] == 3
    assert len(PropagationSamples(dataset, CLIP, CONFIG, train=False)) == 1


def test_moving_shapes_can_be_used(tmp_path):
    options = {"train": 2, "test": 1, "length": 4, "height": 48, "width": 64}
    folder = prepare("moving_shapes", "", tmp_path, options)
    dataset = open_dataset(folder, "source_train")
    for stills in (0.0, 1.0):
        samples = PropagationSamples(dataset, CLIP, PropagationConfig(stills=stills), train=True)
        assert len(samples) == 2 and all(samples[i]["valid"] for i in range(2))
