"""Identities of synthetic tracks, counted by hand."""

import math

import numpy as np
import pytest

from vseg_jax.metrics.identities import IdentityMetric, occlusions
from vseg_jax.run_lengths import encode_rle

SIZE = (4, 12)


def track(*columns):
    """A row whose mask in each frame fills these columns of the frame; None is no mask."""
    codes = []
    for chosen in columns:
        mask = np.zeros(SIZE, np.uint8)
        if chosen is not None:
            mask[:, slice(*chosen)] = 1
        codes.append(None if chosen is None else encode_rle(mask))
    return {"segmentations": codes, "category_id": 0}


def result(truth, predictions):
    metric = IdentityMetric()
    metric.add(SIZE, truth, predictions, "synthetic")
    return metric.result()


def test_tracks_that_swap_objects_switch_twice():
    truth = [track((0, 4), (0, 4), (0, 4)), track((8, 12), (8, 12), (8, 12))]
    whole = result(truth, truth)
    assert math.isnan(whole.pop("identity_preservation")), "nothing was occluded"
    assert whole == {"track_recall": 1.0, "identity_switches": 0, "occlusions": 0}
    crossed = [track((0, 4), (8, 12), (8, 12)), track((8, 12), (0, 4), (0, 4))]
    assert result(truth, crossed)["identity_switches"] == 2
    assert result(truth, crossed)["track_recall"] == 1.0


def test_a_track_that_comes_back_preserves_the_identity_through_an_occlusion():
    """The object is visible as a whole, to a quarter, not at all, and as a whole again."""
    truth = [track((0, 4), (0, 1), None, (4, 8))]

    def scores(switches, preservation):
        return {"track_recall": 2 / 3, "identity_switches": switches, "occlusions": 1,
                "identity_preservation": preservation}

    assert result(truth, [track((0, 4), None, None, (4, 8))]) == scores(0, 1.0)
    lost = [track((0, 4), None, None, None), track(None, None, None, (4, 8))]
    assert result(truth, lost) == scores(1, 0.0)
    assert result(truth, [track((0, 4), (0, 1), None, None)]) == scores(0, 0.0)


def test_overlaps_below_one_half_match_nothing_and_a_track_matches_one_object():
    truth = [track((0, 4)), track((4, 8))]
    assert result(truth, [track((2, 6))])["track_recall"] == 0, "IoU 1/3 with both"
    assert result(truth, [track((0, 6))])["track_recall"] == 0.5, "2/3 with the first"
    assert result(truth, [])["track_recall"] == 0
    assert math.isnan(result([], truth)["track_recall"])


def test_an_occlusion_needs_visible_frames_before_and_after_it():
    assert occlusions(np.array([0, 8, 3, 4, 0, 8, 1])) == [(2, 3), (4, 5)]
    assert occlusions(np.array([8, 8])) == [] == occlusions(np.zeros(3))


def test_videos_add_up_over_processes():
    truth = [track((0, 4), (0, 1), (0, 4))]
    one, other, both = IdentityMetric(), IdentityMetric(), IdentityMetric()
    one.add(SIZE, truth, truth)
    other.add(SIZE, truth, [])
    for metric in (one, other):
        both.add_rows(metric.rows)
    assert both.result() == {"track_recall": 0.5, "identity_switches": 0, "occlusions": 2,
                             "identity_preservation": 0.5}
    with pytest.raises(ValueError, match="synthetic, prediction 0, frame 0 is 4x12"):
        bad = IdentityMetric()
        bad.add((5, 12), [], [track((0, 4))], "synthetic")
