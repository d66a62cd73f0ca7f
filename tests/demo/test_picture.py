"""What the page shows of a frame."""

import base64

import numpy as np
from two_squares import clip_of, draw, squares

from vseg_jax.demo.picture import as_url, picture
from vseg_jax.demo.work import Work
from vseg_jax.input_pipeline.codecs import decode_image


def test_masks_and_clicks_are_drawn(segmenter, clip):
    work = Work(segmenter, clip)
    draw(work, 0, work.add())
    plain, drawn = clip[0], picture(work, 0)
    inside = squares()[1][0] == 1
    assert (drawn[inside] != plain[inside]).any(-1).mean() > 0.9
    assert (drawn[40:, 40:] == plain[40:, 40:]).all()
    work.click(1, 1, (12, 12))
    with_click, without = picture(work, 1, 1), picture(work, 1)
    changed = (with_click != without).any(-1)
    assert changed[12, 12] and not changed[25:].any()
    work.close()


def test_large_frames_are_shown_smaller(segmenter):
    frames = np.full((1, 600, 1600, 3), 90, np.uint8)
    work = Work(segmenter, clip_of(frames))
    work.paint(0, work.add("disc"), [(800, 300)], radius=200)
    drawn = picture(work, 0)
    assert drawn.shape == (360, 960, 3)
    assert (drawn[180, 480] != drawn[180, 20]).any()
    work.close()


def test_a_picture_is_a_url_of_its_own():
    image = np.full((8, 8, 3), 200, np.uint8)
    kind, data = as_url(image).split(",")
    assert kind == "data:image/jpeg;base64"
    assert np.abs(decode_image(base64.b64decode(data), "").astype(int) - 200).max() < 3
