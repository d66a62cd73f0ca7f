"""Identities of synthetic tracks: counted by hand, and against the numbers of TrackEval."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from vseg_jax.metrics.identities import IdentityMetric, occlusions
from vseg_jax.run_lengths import encode_rle

GOLDEN = Path(__file__).parents[1] / "goldens" / "track_eval.npz"
SIZE = (4, 12)
CONTINUITY = ("track_recall", "identity_switches", "occlusions", "identity_preservation")


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


def continuity(truth, predictions):
    return {key: value for key, value in result(truth, predictions).items() if key in CONTINUITY}


def test_an_object_with_two_tracks_by_hand():
    """Each of four matches is the same one in 2 of 4 frames."""
    truth = [track(*[(0, 4)] * 4)]
    halves = [track((0, 4), (0, 4), None, None), track(None, None, (0, 4), (0, 4))]
    found = result(truth, halves)
    assert (found["DetA"], found["AssA"], found["IDF1"]) == (1, 0.5, 0.5)
    assert found["HOTA"] == pytest.approx(math.sqrt(0.5)) and found["identity_switches"] == 1


def test_tracks_that_cross_by_hand():
    """Two objects swap their tracks after the first of three frames. Of six matches, two are the
    same in 1 of 5 frames of object or track, four in 2 of 4."""
    truth = [track((0, 4), (0, 4), (0, 4)), track((8, 12), (8, 12), (8, 12))]
    crossed = [track((0, 4), (8, 12), (8, 12)), track((8, 12), (0, 4), (0, 4))]
    found = result(truth, crossed)
    assert found["AssA"] == pytest.approx((2 / 5 + 4 / 2) / 6) and found["DetA"] == 1
    assert found["HOTA"] == pytest.approx(math.sqrt(0.4))
    assert found["IDF1"] == pytest.approx(2 * 4 / 12)


def test_hota_falls_with_the_overlap():
    """An IoU of 1/3 reaches 6 of 19 thresholds, 2/3 reaches 13, 1/2 reaches 10."""
    found = result([track((0, 4))], [track((2, 6))])
    assert found["HOTA"] == found["DetA"] == found["AssA"] == pytest.approx(6 / 19)
    assert found["IDF1"] == 0
    found = result([track((0, 4)), track((4, 8))], [track((0, 6))])
    assert found["HOTA"] == pytest.approx(13 / 19 * math.sqrt(0.5)), "one of two objects"
    assert found["IDF1"] == pytest.approx(2 / 3)
    found = result([track((0, 4))], [track((0, 8))])
    assert found["HOTA"] == pytest.approx(10 / 19) and found["IDF1"] == 1


def test_nothing_to_find_and_nothing_found():
    one = [track((0, 4))]
    nothing = result([], [])
    assert all(math.isnan(nothing[key]) for key in ("HOTA", "DetA", "AssA", "IDF1"))
    for truth, predictions in ((one, []), ([], one)):
        found = result(truth, predictions)
        assert [found[key] for key in ("HOTA", "DetA", "AssA", "IDF1")] == [0] * 4


def test_a_match_continues_while_it_overlaps_by_one_half():
    """The second track fits better from frame 1 on, but the first one stays until it is gone."""
    truth = [track(*[(0, 4)] * 3)]
    tracks = [track((0, 3), (0, 3), None), track(None, (0, 4), (0, 4))]
    assert result(truth, tracks)["identity_switches"] == 1
    assert result(truth, [track((0, 3), (0, 3), (0, 3)), tracks[1]])["identity_switches"] == 0


@pytest.mark.parametrize("name", ["plain", "fragments", "duplicates", "gaps", "empty"])
def test_the_numbers_of_track_eval(name):
    with np.load(GOLDEN) as file:
        case = json.loads(file[name].tobytes())
    metric = IdentityMetric()
    for video in case["videos"]:
        metric.add(tuple(case["size"]), video["truth"], video["predictions"], name)
    found = metric.result()
    for key, value in case["scores"].items():
        assert found[key] == pytest.approx(value, abs=1e-9), key


def test_tracks_that_swap_objects_switch_twice():
    truth = [track((0, 4), (0, 4), (0, 4)), track((8, 12), (8, 12), (8, 12))]
    assert result(truth, truth)["HOTA"] == result(truth, truth)["IDF1"] == 1
    whole = continuity(truth, truth)
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

    assert continuity(truth, [track((0, 4), None, None, (4, 8))]) == scores(0, 1.0)
    lost = [track((0, 4), None, None, None), track(None, None, None, (4, 8))]
    assert continuity(truth, lost) == scores(1, 0.0)
    assert continuity(truth, [track((0, 4), (0, 1), None, None)]) == scores(0, 0.0)


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
    together = both.result()
    assert [together[key] for key in CONTINUITY] == [0.5, 0, 2, 0.5]
    assert (together["HOTA"], together["DetA"], together["AssA"]) == (
        pytest.approx(math.sqrt(0.5)), 0.5, 1)
    assert together["IDF1"] == pytest.approx(2 * 3 / (6 + 3))
    assert json.loads(json.dumps(both.rows)) == both.rows
    with pytest.raises(ValueError, match="synthetic, prediction 0, frame 0 is 4x12"):
        bad = IdentityMetric()
        bad.add((5, 12), [], [track((0, 4))], "synthetic")
