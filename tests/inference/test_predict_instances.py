"""The files of `predict_to_folder` for a model that finds objects by itself."""

import json

import numpy as np
import pytest
import standin_vis
from PIL import Image

from vseg_jax.inference.predict import predict_to_folder
from vseg_jax.media import overlay
from vseg_jax.media.video import Video, VideoWriter

pytest.importorskip("av")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("predict") / "squares.mp4"
    with VideoWriter(path, 12.5) as writer:
        for frame in standin_vis.video()[0]:
            writer.add(frame.repeat(4, 0).repeat(4, 1))
    return path


def test_every_object_has_its_row_its_value_and_its_label(video, tmp_path):
    table = predict_to_folder(
        standin_vis.segmenter(first=400), video, tmp_path / "out", progress=False)
    assert json.loads((tmp_path / "out/predictions.json").read_text()) == table
    assert "query" not in table and "mask" not in table
    assert [[(o["id"], o["category"], o["value"]) for o in row["objects"]]
            for row in table["frames"]] == [
        [(401, "square", 147), (402, "big_box", 148)]] * 2 + [[(401, "square", 147)]] * 2 + [
        [(401, "square", 147), (404, "big_box", 150)]] * 2
    _, truth = standin_vis.video()
    for t, row in enumerate(table["frames"]):
        with Image.open(tmp_path / "out" / row["mask"]) as image:
            index = np.asarray(image)
        wanted = np.array([0, 147, 150 if t > 1 else 148])[truth[t].repeat(4, 0).repeat(4, 1)]
        assert (index == wanted).mean() > 0.97
        for found in row["objects"]:
            left, top, right, bottom = found["box"]
            box = (index == found["value"])[top:bottom, left:right]
            assert box.sum() == found["area"] and found["score"] == 0.75
    assert table["identities"] == [
        {"id": 401, "category": "square", "score": 0.75, "frames": 6},
        {"id": 404, "category": "big_box", "score": 0.75, "frames": 2}]
    assert len(list(Video(tmp_path / "out/overlay.mp4"))) == 6


def test_prompts_are_refused(video, tmp_path):
    overlay.save_index(tmp_path / "first.png", np.ones((96, 128), np.uint8))
    for prompt in ({"query": "a dog"}, {"query": ""}, {"mask": tmp_path / "first.png"}):
        with pytest.raises(ValueError, match=r"by itself: leave out (query|mask)"):
            predict_to_folder(
                standin_vis.segmenter(), video, tmp_path / "out", progress=False, **prompt)
    with pytest.warns(UserWarning, match=r"squares\.mp4 has no audio track; the model gets sil"):
        table = predict_to_folder(
            standin_vis.segmenter(audio=True), video, tmp_path / "out", progress=False)
    assert len(table["frames"]) == 6


def test_labels_are_above_their_objects_and_inside_the_frame():
    frame, index = np.full((120, 160, 3), 100, np.uint8), np.zeros((120, 160), np.uint8)
    index[60:100, 20:60] = 1
    index[0:30, 140:160] = 2
    plain = overlay.draw(frame, index)
    drawn = overlay.draw(frame, index, labels={1: "dog 1", 2: "earless seal 2", 7: "not there"})
    changed = np.argwhere((drawn != plain).any(-1))
    below, above = changed[changed[:, 0] > 40], changed[changed[:, 0] <= 40]
    assert below.min(0)[0] < 60 and below.max(0)[0] <= 60, "over the object, not on it"
    assert 20 < below[:, 1].mean() < 60
    assert above.max(0)[1] == 159 and above.min(0)[1] < 140, "moved inside at the frame's edge"
    tag = drawn[below[:, 0].min() + 1, below[:, 1].min() + 1]
    assert (tag == overlay.COLORS[0]).all()
    letters = drawn[below[:, 0], below[:, 1]].sum(-1)
    assert letters.min() < 120, "dark letters on a light color"
    wide = overlay.draw(frame, index, labels={1: "word " * 30})
    assert (wide == plain).all()
