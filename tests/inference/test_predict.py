"""Files that predict writes, and what the overlay draws."""

import json

import numpy as np
import pytest
import standin
from PIL import Image

from vseg_jax.inference import overlay
from vseg_jax.inference.predict import predict
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.inference.video import Video, VideoWriter

pytest.importorskip("av")


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(standin.Standin(), standin.variables(), standin.tokenizer(), standin.CLIP)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("predict") / "squares.mp4"
    with VideoWriter(path, 12.5) as writer:
        for frame in standin.square_frames(6, size=(48, 64), side=16)[0]:
            writer.add(frame)
    return path


def test_masks_film_and_table(segmenter, film, tmp_path):
    out = tmp_path / "answers" / "one"
    table = predict(segmenter, film, "the red square", out, progress=False)
    assert json.loads((out / "predictions.json").read_text()) == table
    assert sorted(p.name for p in out.iterdir()) == ["masks", "overlay.mp4", "predictions.json"]
    assert (table["height"], table["width"], table["fps"]) == (48, 64, 12.5)
    assert [row["frame"] for row in table["frames"]] == list(range(6))
    _, truth = standin.square_frames(6, size=(48, 64), side=16)
    for row, index in zip(table["frames"], truth, strict=True):
        with Image.open(out / row["mask"]) as image:
            assert image.mode == "P" and image.getpalette()[3:6] == [128, 0, 0]
            mask = np.asarray(image)
        assert set(np.unique(mask)) == {0, 1}
        wanted = index == 1
        assert ((mask > 0) & wanted).sum() / ((mask > 0) | wanted).sum() > 0.5
        (found,) = row["objects"]
        assert found["area"] == mask.sum() and 0 < found["score"] <= 1
        left, top, right, bottom = found["box"]
        assert mask[top:bottom, left:right].sum() == found["area"]
        assert mask[top:bottom, left].any() and mask[top, left:right].any()
    drawn = list(Video(out / "overlay.mp4"))
    assert len(drawn) == 6 and drawn[0].shape == (48, 64, 3)


def test_nothing_is_left_of_a_prediction_that_fails(segmenter, film, tmp_path):
    data = film.read_bytes()
    start = data.find(b"mdat") + 4
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(data[:start] + bytes(len(data) - start))
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no frame"):
        predict(segmenter, noise, "red", out, progress=False)
    with pytest.raises(ValueError, match="has no word"):
        predict(segmenter, film, "...", out, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["noise.mp4"]
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there already"):
        predict(segmenter, film, "red", out, progress=False)
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


def test_the_overlay_marks_objects_and_leaves_the_rest():
    frame = np.full((120, 160, 3), 100, np.uint8)
    index = np.zeros((120, 160), np.uint8)
    index[30:60, 30:60] = 1
    index[30:60, 90:130] = 2
    index[0:4] = 255
    drawn = overlay.draw(frame, index)
    assert (frame == 100).all(), "the frame is not drawn into"
    assert (drawn[80:, :] == 100).all() and (drawn[:4] == 100).all(), "void is not drawn"
    inside = [drawn[45, 45].astype(float), drawn[45, 110].astype(float)]
    for colour, pixel in zip(overlay.COLOURS, inside, strict=False):
        towards = colour.astype(float) - 100
        assert ((pixel - 100) * towards >= 0).all() and np.abs(pixel - 100).max() > 20
    assert (inside[0] != inside[1]).any()
    edge = np.abs(drawn[45, 30].astype(float) - 100).sum()
    assert edge > np.abs(inside[0] - 100).sum(), "the outline is stronger than the fill"
    assert (overlay.draw(frame, np.zeros_like(index)) == frame).all()


@pytest.mark.parametrize("size", [(480, 854), (120, 90), (64, 64)])
@pytest.mark.parametrize("words", [2, 12, 200])
def test_the_caption_stays_inside(size, words):
    frame = np.full((*size, 3), 60, np.uint8)
    drawn = overlay.draw(frame, np.zeros(size, np.uint8), "dog " * words)
    written = drawn.max(-1) > 150
    assert written.any()
    rows, columns = np.nonzero(written.any(1))[0], np.nonzero(written.any(0))[0]
    assert rows[0] > size[0] / 2 and rows[-1] < size[0] - 1
    assert columns[0] > 0 and columns[-1] < size[1] - 1


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
def test_a_caption_where_no_letter_fits_is_left_out(size):
    frame = np.full((*size, 3), 60, np.uint8)
    assert overlay.draw(frame, np.ones(size, np.uint8), "a dog").shape == frame.shape


def test_palette_is_that_of_davis():
    colours = np.array(overlay.palette()).reshape(256, 3)
    assert colours[[0, 1, 2, 3, 21, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [128, 64, 128], [224, 224, 192]]
