"""Tests the picture and the example video after a training."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
import standin
from PIL import Image

from vseg_jax.evaluation import overview
from vseg_jax.evaluation.showcase import CELL, write_example
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.media.video import Video


class Pointing(standin.Standin):
    """Points at the left half of the input."""

    def heat_map(self, variables, batch):
        cells = jnp.zeros((len(batch["target"]), 4, 4)).at[:, :, :2].set(1.0)
        return cells.at[0].set(jnp.nan)   # as where all weights are 0


@pytest.fixture
def samples():
    return standin.samples()


def picture(model, samples, path, **options):
    variables = standin.variables()
    before = {"params": variables["params"] | {"bias": jnp.array(-9.0)}}
    overview.write(model, before, variables, {"seen": samples, "unseen": samples}, path, **options)
    return np.asarray(Image.open(path))


def test_two_objects_of_a_clip_are_shown_first(samples):
    chosen = overview.choose(samples, 3)
    truths = [samples.truth(number) for number in chosen]
    assert [(t.video_id, t.object_id) for t in truths] == [
        ("video0", 1), ("video0", 2), ("video1", 1)]
    assert len(overview.choose(samples, 99)) == 6


def test_clips_with_one_object_are_shown_where_there_are_no_others(samples):
    samples._rows = samples._rows[samples._rows[:, 1] == 0]   # only the red squares
    truths = [samples.truth(number) for number in overview.choose(samples, 2)]
    assert [(t.video_id, t.object_id) for t in truths] == [("video0", 1), ("video1", 1)]


def panel(image, row, column, samples):
    """The panel of a row of the first set, as `overview` lays it out."""
    height = round(overview.SIDE * 24 / 32)
    top = 4 + overview._HEAD + overview._TITLE
    top += row * (overview._CAPTION + height) + overview._CAPTION
    left = 8 + column * (overview.SIDE + overview._GAP)
    return image[top:top + height, left:left + overview.SIDE].astype(int)


def test_truth_and_predictions_keep_the_colors_of_the_object_only(samples, tmp_path):
    image = picture(standin.Standin(), samples, tmp_path / "overview.png", rows=2, protocol="coco")
    assert image.shape[1] == 16 + 4 * overview.SIDE + 3 * overview._GAP
    truth = samples.truth(overview.choose(samples, 2)[0])
    mask = cv2.resize((truth.mask == 1).astype(np.uint8), (overview.SIDE, 108)) > 0
    core = cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) > 0
    far = cv2.dilate(mask.astype(np.uint8), np.ones((19, 19))) == 0
    shown, marked, before, after = (panel(image, 0, column, samples) for column in range(4))
    np.testing.assert_array_equal(marked[core], shown[core])
    np.testing.assert_array_equal(after[core], shown[core])
    assert marked[far].max() < 60 and after[far].max() < 60
    assert before.max() < 90, "nothing is predicted before the training"


def test_where_the_expression_points(samples, tmp_path):
    image = picture(Pointing(), samples, tmp_path / "overview.png", rows=2)
    assert image.shape[1] == 16 + 6 * overview.SIDE + 5 * overview._GAP
    nothing, left_half = (panel(image, row, 5, samples).sum(-1) for row in (0, 1))
    assert left_half[:, :50].mean() > 3 * left_half[:, -50:].mean()
    assert nothing[:, :50].mean() < left_half[:, :50].mean() / 3, "weights of 0 are dark"


def test_frames_with_padding_and_of_other_shapes(tmp_path):
    clip = ClipConfig(length=3, stride=1, target=1, height=16, width=16, resize="pad")
    samples = standin.samples(clip=clip, size=(48, 32))
    image = picture(Pointing(), samples, tmp_path / "overview.png", rows=1)
    assert image.shape[1] == 16 + 6 * 96 + 5 * overview._GAP


def test_an_example_to_predict(samples, tmp_path):
    pytest.importorskip("av")
    dataset, scale = samples.dataset, round(CELL / 24)
    write_example(dataset, tmp_path / "example.mp4", 1, mask=tmp_path / "example.png")
    video = list(Video(tmp_path / "example.mp4"))
    assert len(video) == 4 and video[0].shape == (24 * scale, 32 * scale, 3)
    mask = np.asarray(Image.open(tmp_path / "example.png"))
    assert mask.shape == video[0].shape[:2] and set(np.unique(mask)) == {0, 1, 2}
    assert video[0][mask == 1].mean(0) == pytest.approx([255, 0, 0], abs=40)
