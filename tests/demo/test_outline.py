"""Masks from clicks and boxes, on pictures whose objects are known."""

import numpy as np
import pytest

from vseg_jax.demo.outline import outline


@pytest.fixture(scope="module")
def picture():
    """A noisy picture of 400 x 240 with a red ellipse and a green bar, and their masks."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:240, :400]
    ellipse = ((x - 120) / 50) ** 2 + ((y - 100) / 40) ** 2 < 1
    bar = (x >= 250) & (x < 280) & (y >= 60) & (y < 200)
    image = np.full((240, 400, 3), (90, 100, 140), np.int16)
    image[ellipse], image[bar] = (190, 60, 50), (60, 160, 60)
    noisy = image + generator.integers(-20, 21, image.shape)
    return noisy.clip(0, 255).astype(np.uint8), ellipse, bar


def overlap(mask, wanted):
    assert mask.dtype == bool and mask.shape == wanted.shape
    return (mask & wanted).sum() / (mask | wanted).sum()


def test_a_box_gives_the_object_in_it(picture):
    image, ellipse, bar = picture
    assert overlap(outline(image, box=(60, 50, 180, 150)), ellipse) > 0.93
    assert overlap(outline(image, box=(240, 50, 290, 210)), bar) > 0.9


def test_a_click_gives_the_object_under_it(picture):
    image, ellipse, bar = picture
    assert overlap(outline(image, inside=[(120, 100)]), ellipse) > 0.9
    two = outline(image, inside=[(265, 80), (265, 180)])
    assert overlap(two, bar) > 0.85 and not (two & ellipse).any()


def test_clicks_refine_a_mask(picture):
    image, ellipse, bar = picture
    both = ellipse | bar
    without = outline(image, start=both, outside=[(265, 100), (265, 160)])
    assert (without & bar).sum() < 0.2 * bar.sum() and overlap(without & ~bar, ellipse) > 0.95
    with_bar = outline(image, start=ellipse, inside=[(265, 100), (265, 160)])
    assert (with_bar & bar).sum() > 0.8 * bar.sum() and (with_bar & ellipse).sum() > 0.95 * (
        ellipse.sum())


def test_the_same_clicks_give_the_same_mask(picture):
    image, _, _ = picture
    first, second = (outline(image, inside=[(120, 100)]) for _ in range(2))
    assert (first == second).all()


def test_a_picture_of_one_color_gives_the_box_itself():
    image = np.full((60, 80, 3), 100, np.uint8)
    mask = outline(image, box=(20, 10, 50, 40))
    assert mask.any() and not mask[:8].any() and not mask[:, 55:].any()
    assert outline(image, inside=[(0, 0)])[0, 0]   # a click on the edge


@pytest.mark.parametrize("box", [(10, 10, 10, 10), (10, 10, 11, 100), (500, 10, 600, 100)])
def test_a_box_that_is_too_small_is_refused(picture, box):
    with pytest.raises(ValueError, match="box is too small"):
        outline(picture[0], box=box)


def test_something_must_be_given(picture):
    with pytest.raises(ValueError, match="a click on the object"):
        outline(picture[0], outside=[(1, 1)])
