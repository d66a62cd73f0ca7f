"""The frame in which a model is surest of a query, and a second model that follows its mask."""

import json

import numpy as np
import pytest
import standin
from PIL import Image

from vseg_jax.inference.finding import find
from vseg_jax.inference.predict import predict_to_folder
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.media import overlay
from vseg_jax.media.excerpt import Part

SIZE = (20, 30)


class Finder(Segmenter):
    """Finds, in each frame, a square of this side with this probability."""

    def __init__(self, squares):
        self.squares = squares

    def segment(self, video, query):
        for number, (frame, (side, probability)) in enumerate(
                zip(video, self.squares, strict=True)):
            soft = np.full((1, *SIZE), 0.1, np.float32)
            soft[:, :side, :side] = probability
            yield Segmentation(number, frame, soft, np.array([0.5], np.float32), "expressions")


def test_the_surest_frame_is_found():
    frames = np.zeros((4, *SIZE, 3), np.uint8)
    found, certainty = find(Finder([(4, 0.6), (5, 0.8), (6, 0.7), (0, 0.0)]), frames, "a square")
    assert (found.frame, found.index.sum()) == (1, 25)
    assert certainty == pytest.approx(0.8)


def test_a_mask_of_a_few_pixels_counts_only_if_there_is_no_larger_one(monkeypatch):
    frames = np.zeros((2, *SIZE, 3), np.uint8)
    monkeypatch.setattr("vseg_jax.inference.finding._SMALLEST", 0.01)   # 6 of 600 pixels
    assert find(Finder([(2, 0.9), (3, 0.6)]), frames, "a square")[0].frame == 1
    assert find(Finder([(2, 0.9), (1, 0.95)]), frames, "a square")[0].frame == 1
    with pytest.raises(ValueError, match="no frame shows what the query 'a square' names"):
        find(Finder([(2, 0.4), (3, 0.3)]), frames, "a square")


@pytest.fixture
def video(tmp_path):
    """A folder of six images of a red and a blue square, and the masks of both."""
    frames, truth = standin.square_frames(6, size=(48, 64), side=16)
    (tmp_path / "squares").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "squares" / f"{number:05d}.png")
    return tmp_path / "squares", truth


def test_what_a_query_names_is_followed_in_both_directions(video, follower, tmp_path, monkeypatch):
    """The masks before and after the frame that was found are those of the second model."""
    folder, truth = video
    finder = standin.segmenter()
    surest = Segmentation(4, np.zeros((48, 64, 3), np.uint8), (truth[4] == 1)[None] * np.float32(1),
                          np.array([1], np.float32), "expressions")
    monkeypatch.setattr("vseg_jax.inference.predict.find", lambda *_: (surest, 0.75))
    table = predict_to_folder(finder, folder, tmp_path / "out", query="the red square",
                              follow=follower, progress=False, keep=True)
    assert table["found"] == {"frame": 4, "certainty": 0.75}
    assert table["query"] == "the red square" and "mask" not in table
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == table
    for row, index in zip(table["frames"], truth, strict=True):
        assert (overlay.read_index(tmp_path / "out" / row["mask"]) == (index == 1)).all()
    assert predict_to_folder(finder, folder, tmp_path / "out", query="the red square",
                             follow=follower, progress=False, keep=True) == table
    with pytest.raises(ValueError, match="predictions with another follow; name another output"):
        predict_to_folder(finder, folder, tmp_path / "out", query="the red square",
                          progress=False, keep=True)


def test_frames_have_the_numbers_of_the_video(video, follower, tmp_path):
    folder, _ = video
    table = predict_to_folder(standin.segmenter(), folder, tmp_path / "part", query="the red one",
                              follow=follower, part=Part(start=1, every=2), progress=False)
    assert [row["frame"] for row in table["frames"]] == [1, 3, 5]
    assert table["found"]["frame"] in (1, 3, 5)
    assert all(row["objects"][0]["area"] > 100 for row in table["frames"])
