"""Tests that found and grounded are told apart, on frames whose scores are known by hand."""

import numpy as np
import pytest

from vseg_jax.index_masks import VOID
from vseg_jax.metrics.grounding import SCORES, grounding, mean_scores

INDEX = np.zeros((4, 8), np.uint8)
INDEX[0, :4] = 1      # 4 pixels
INDEX[2:, :4] = 2     # 8 pixels
INDEX[:, 7] = VOID
INDEX[0, 7] = 3       # 1 pixel; the other 3 of the column are void


def scores(where, named=1, index=INDEX):
    prediction = np.zeros(index.shape, bool)
    prediction[where] = True
    return dict(zip(SCORES, grounding(prediction, index, named), strict=True))


def test_a_perfect_prediction():
    assert scores(INDEX == 2, named=2) == pytest.approx(
        {"found_iou": 8 / 13, "best_iou": 1, "grounded": 1, "guess_iou": 1 / 3})


def test_the_perfect_mask_of_another_object():
    assert scores(INDEX == 2, named=1) == pytest.approx(
        {"found_iou": 8 / 13, "best_iou": 1, "grounded": 0, "guess_iou": 1 / 3})


def test_all_objects_together():
    assert scores((INDEX > 0) & (INDEX != VOID), named=2) == pytest.approx(
        {"found_iou": 1, "best_iou": 8 / 13, "grounded": 1, "guess_iou": 1 / 3})


def test_the_largest_intersection_counts_and_not_the_best_iou():
    where = INDEX == 1
    where[2:, :3] = True   # all 4 pixels of object 1, and 6 of the 8 of object 2
    one, two = scores(where, named=1), scores(where, named=2)
    assert (one["grounded"], two["grounded"]) == (0, 1)
    assert one["best_iou"] == pytest.approx(6 / (8 + 10 - 6))
    assert one["found_iou"] == pytest.approx(10 / 13)


def test_background_lowers_the_overlap_and_void_changes_nothing():
    where = INDEX == 1
    where[1, :4] = True    # 4 pixels of background
    on_background = scores(where)
    assert on_background["found_iou"] == pytest.approx(4 / (13 + 4))
    assert on_background["best_iou"] == pytest.approx(4 / 8)
    assert on_background["grounded"] == 1
    where[INDEX == VOID] = True
    assert scores(where) == on_background


@pytest.mark.parametrize("where", [np.s_[:0], np.s_[1, 4:7]])
def test_nothing_found(where):
    assert scores(where) == pytest.approx(
        {"found_iou": 0, "best_iou": 0, "grounded": 0, "guess_iou": 1 / 3})


def test_a_frame_without_objects():
    empty = np.full((2, 2), VOID, np.uint8)
    empty[0] = 0
    assert set(scores(np.s_[0, 0], index=empty).values()) == {0}


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="resize the prediction"):
        grounding(np.zeros((4, 7), bool), INDEX, 1)


def test_means_are_over_samples():
    rows = np.array([[0.5, 1, 1, 0.5], [0.25, 0.5, 0, 0.25]])
    assert mean_scores(rows) == {
        "found_iou": 0.375, "best_iou": 0.75, "grounded": 0.5, "guess_iou": 0.375}
