"""Identities of made tracks, counted by hand."""

import math

import numpy as np
import pytest

from vseg_jax.input_pipeline.codecs import encode_rle
from vseg_jax.metrics.identities import IdentityMetric, occlusions

SIZE = (4, 12)


def track(*columns):
    """A row whose mask in each frame fills these columns of the picture; None: no mask."""
    codes = []
    for chosen in columns:
        mask = np.zeros(SIZE, np.uint8)
        if chosen is not None:
            mask[:, slice(*chosen)] = 1
        codes.append(None if chosen is None else encode_rle(mask))
    return {"segmentations": codes, "category_id": 0}


def result(truth, predictions):
    metric = IdentityMetric()
    metric.add(SIZE, truth, predictions, "made")
    return metric.result()


def test_tracks_that_change_places_switch_twice():
    truth = [track((0, 4), (0, 4), (0, 4)), track((8, 12), (8, 12), (8, 12))]
    whole = result(truth, truth)
    assert math.isnan(whole.pop("kept")), "nothing was occluded"
    assert whole == {"followed": 1.0, "switches": 0, "occlusions": 0}
    crossed = [track((0, 4), (8, 12), (8, 12)), track((8, 12), (0, 4), (0, 4))]
    assert result(truth, crossed)["switches"] == 2
    assert result(truth, crossed)["followed"] == 1.0


def test_an_occlusion_is_kept_by_the_track_that_comes_back():
    """The object is seen whole, a quarter of it, not at all, whole again."""
    truth = [track((0, 4), (0, 1), None, (4, 8))]
    kept = track((0, 4), None, None, (4, 8))
    assert result(truth, [kept]) == {"followed": 2 / 3, "switches": 0, "occlusions": 1, "kept": 1.0}
    lost = [track((0, 4), None, None, None), track(None, None, None, (4, 8))]
    assert result(truth, lost) == {"followed": 2 / 3, "switches": 1, "occlusions": 1, "kept": 0.0}
    never = result(truth, [track((0, 4), (0, 1), None, None)])
    assert never == {"followed": 2 / 3, "switches": 0, "occlusions": 1, "kept": 0.0}


def test_overlaps_of_less_than_a_half_pair_nothing_and_one_track_is_of_one_object():
    truth = [track((0, 4)), track((4, 8))]
    assert result(truth, [track((2, 6))])["followed"] == 0, "IoU 1/3 with both"
    assert result(truth, [track((0, 6))])["followed"] == 0.5, "2/3 with the first"
    assert result(truth, [])["followed"] == 0
    assert math.isnan(result([], truth)["followed"])


def test_occlusions_need_a_before_and_an_after():
    assert occlusions(np.array([0, 8, 3, 4, 0, 8, 1])) == [(2, 3), (4, 5)]
    assert occlusions(np.array([8, 8])) == [] == occlusions(np.zeros(3))


def test_videos_add_up_over_processes():
    truth = [track((0, 4), (0, 1), (0, 4))]
    one, other, both = IdentityMetric(), IdentityMetric(), IdentityMetric()
    one.add(SIZE, truth, truth)
    other.add(SIZE, truth, [])
    for metric in (one, other):
        both.add_rows(metric.rows)
    assert both.result() == {"followed": 0.5, "switches": 0, "occlusions": 2, "kept": 0.5}
    with pytest.raises(ValueError, match="made, prediction 0, frame 0 is 4x12"):
        bad = IdentityMetric()
        bad.add((5, 12), [], [track((0, 4))], "made")
