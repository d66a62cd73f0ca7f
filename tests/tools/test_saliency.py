import json

import numpy as np
import pytest
from painted import one_video

from vseg_jax.cli import main
from vseg_jax.input_pipeline.records import (
    Expression,
    Object,
    Record,
    encode_image,
    encode_mask,
)
from vseg_jax.tools.saliency import evaluate, largest_region, moving_object, own_motion

SIZE = (96, 128)


def square(top, left, side):
    mask = np.zeros(SIZE, bool)
    mask[top:top + side, left:left + side] = True
    return mask


def video(name="v", step=4):
    """A square of noise that moves right, and a small one that moves left, as the camera pans."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (*shape, 3), np.uint8).repeat(4, 0).repeat(4, 1)
             for shape in ((24, 44), (8, 8), (3, 3))]
    frames, masks = [], []
    for t in range(3):
        frame = noise[0][:, 2 * t:2 * t + SIZE[1]].copy()
        large, small = square(30, 30 + step * t, 32), square(10, 100 - step * t, 12)
        frame[large], frame[small] = (n.reshape(-1, 3) for n in noise[1:])
        frames.append(encode_image(frame))
        masks.append(encode_mask(large + 2 * small.astype(np.uint8)))
    return Record(name, frames, masks, *SIZE, objects=[Object(1), Object(2)],
                  expressions=[Expression("the large one", 1, "plain"),
                               Expression("the small one", 2, "free")])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return one_video(tmp_path_factory.mktemp("saliency"), video())


def test_motion_is_measured_against_that_of_the_camera():
    y, x = np.indices(SIZE, np.float32)
    flow = np.stack([3 + 0.02 * x - 0.01 * y, -2 + 0.02 * y + 0.01 * x], -1)   # pan, zoom, roll
    inside = square(20, 30, 24)
    flow[inside] += np.float32([3, -4])
    motion = own_motion(flow)
    np.testing.assert_allclose(motion[inside], 5, atol=0.05)
    np.testing.assert_allclose(motion[~inside], 0, atol=0.05)


def test_the_largest_region_counts():
    large, small = square(10, 10, 30), square(60, 80, 20)
    motion = np.where(large, 2.0, 0.0) + np.where(small, 3.0, 0.0)
    np.testing.assert_array_equal(largest_region(motion), large)
    assert not largest_region(0.4 * np.ones(SIZE)).any(), "noise of the flow"
    assert not largest_region(np.zeros(SIZE)).any()


def test_a_moving_object_is_found_in_every_frame(dataset):
    record = dataset[0]
    for t in range(3):   # in the last one from the flow back
        found, truth = moving_object(dataset, record, t), square(30, 30 + 4 * t, 32)
        assert (found & truth).sum() > 0.75 * (found | truth).sum(), t
    record.frames, record.masks = record.frames[:1], record.masks[:1]
    assert not moving_object(dataset, record, 0).any()


def test_scores_are_those_of_the_chosen_samples(dataset):
    plain = evaluate(dataset, styles=("plain",), progress=False)
    both = evaluate(dataset, frames=1, progress=False)
    free = evaluate(dataset, styles=("free",), frames=1, progress=False)
    assert plain["mean_iou"] > 0.75 and plain["grounded"] == 1 and plain["guess_iou"] == 0.5
    assert free["mean_iou"] < 0.1 < free["best_iou"]
    assert both["precision@0.5"] == 0.5 and list(both["videos"]) == ["v"]
    assert both["videos"]["v"] == pytest.approx(both["mean_iou"])


def test_the_command(tmp_path, capsys):
    folder = tmp_path / "synthetic/default/1.0.0"
    one_video(tmp_path, video())
    given = ["saliency", "--prepared", str(folder), "--split", "train", "--styles", "plain"]
    capsys.readouterr()
    assert main([*given, "--frames", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["mean_iou"] > 0.75
    assert main([*given[:-1], "rude"]) == 2
    assert "error: synthetic train has no sample with styles ('rude',)" in capsys.readouterr().err
