import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.models.rcf import identity

FOLLOW = jax.jit(identity.follow, static_argnames="override")
RECORD = jax.jit(identity.record)
NOBODY = np.full(4, -1, np.int32)


def boxes(*places, slots=4):
    """Returns a 4 x 4 mask for each slot, at columns `places` of a strip; no mask for None."""
    masks = np.zeros((slots, 4, 40), bool)
    for slot, place in enumerate(places):
        if place is not None:
            masks[slot, :, place : place + 4] = True
    return masks


def video(*frames, override=0.5):
    """Returns the identities of each frame; slots with a mask fire."""
    who, before, masks_before, predictions = identity.first(4), NOBODY, boxes(), []
    for masks in frames:
        fired = masks.any((1, 2))
        who, before = FOLLOW(who, fired, masks, before, masks_before, override=override)
        masks_before = masks
        predictions.append(before.tolist())
    return predictions


def test_slots_are_identities_also_after_an_absence():
    assert video(boxes(0, None, 8), boxes(0), boxes(None, 20), boxes(2, 20, 30)) == [
        [0, -1, 2, -1], [0, -1, -1, -1], [-1, 1, -1, -1], [0, 1, 2, -1]]


def test_masks_pass_their_identity_on():
    # Slots 0 and 1 swap, then slot 3 takes over from slot 0.
    assert video(boxes(0, 20), boxes(20, 0), boxes(None, 0, None, 21)) == [
        [0, 1, -1, -1], [1, 0, -1, -1], [-1, 0, -1, 1]]
    assert video(boxes(0, 20), boxes(20, 0), override=None)[1] == [0, 1, -1, -1]


def test_an_iou_of_exactly_the_threshold_is_not_enough():
    half = boxes(0)
    half[0, 2:] = False                      # IoU 1 / 2 with the whole
    moved = half[[3, 0, 1, 2]]               # in slot 1
    assert video(boxes(0), moved, override=0.5)[1] == [-1, 1, -1, -1]
    assert video(boxes(0), moved, override=0.49)[1] == [-1, 0, -1, -1]


def test_the_larger_overlap_wins_and_the_loser_gets_a_new_identity():
    # Slots 1 and 2 both overlap the former mask of slot 0; slot 0 fires elsewhere.
    masks = boxes(30, 1, 0)
    masks[1, :, 1:5] = True
    assert video(boxes(0), masks)[1] == [4, 1, 0, -1]
    # The next new identity is the next number; slot 0 stays 4 from now on.
    assert video(boxes(0), masks, boxes(30, None, None, 0))[2] == [4, -1, -1, 0]


def test_two_slots_with_one_identity_never_share_it():
    # Slot 1 took over identity 0 while slot 0 had no object; then both fire elsewhere.
    predictions = video(boxes(0), boxes(None, 0), boxes(10, 30))
    assert predictions == [[0, -1, -1, -1], [-1, 0, -1, -1], [0, 4, -1, -1]]


@pytest.mark.parametrize("seed", range(3))
def test_greedy_pairs_and_free_identities_at_random(seed):
    """Compares with the rules in plain Python."""
    random = np.random.default_rng(seed)
    who, unused = list(range(4)), 4
    state, before, masks_before = identity.first(4), NOBODY, boxes()
    for _ in range(12):
        masks = boxes(*[int(random.integers(0, 12)) if random.random() < 0.7 else None
                        for _ in range(4)])
        fired = masks.any((1, 2))
        pairs = []
        for i, j in itertools.product(range(4), range(4)):
            both = (masks[i] & masks_before[j]).sum()
            either = (masks[i] | masks_before[j]).sum()
            if fired[i] and before[j] >= 0 and both / max(either, 1) > 0.5:
                pairs.append((-both / either, i, j))
        assigned = {}
        taken = set()
        for _, i, j in sorted(pairs):
            if i not in assigned and j not in taken:
                assigned[i], _ = int(before[j]), taken.add(j)
        for i in range(4):
            if fired[i] and i not in assigned:
                if who[i] in assigned.values():
                    assigned[i], unused = unused, unused + 1
                else:
                    assigned[i] = who[i]
        for i, number in assigned.items():
            who[i] = number
        state, before = FOLLOW(state, fired, masks, before, masks_before, override=0.5)
        masks_before = masks
        assert before.tolist() == [assigned.get(i, -1) for i in range(4)]
        assert state.slots.tolist() == who and int(state.unused) == unused


def test_the_summary_of_a_video_takes_the_largest_mean_probability():
    tracks = identity.no_tracks(8, 3)
    # Identity 5 is class 1 twice, weakly, and class 0 once, strongly; identity 2 is seen once.
    for frame, (slots, probabilities) in enumerate([
        ([5, -1], [[0.05, 0.4, 0.0], [0.9, 0.9, 0.9]]),
        ([-1, 5], [[0.9, 0.9, 0.9], [0.95, 0.0, 0.0]]),
        ([5, 2], [[0.05, 0.45, 0.0], [0.0, 0.0, 0.6]]),
    ]):
        tracks = RECORD(tracks, np.int32(slots), np.float32(probabilities), frame)
    mean = jax.jit(identity.summary)(tracks)
    five, two = (list(tracks.identity).index(n) for n in (5, 2))
    assert (mean.category[five], mean.frames[five], mean.category[two]) == (0, 3, 2)
    assert mean.score[five] == pytest.approx((0.05 + 0.95 + 0.05) / 3)
    assert mean.score[two] == pytest.approx(0.6)
    assert sorted(mean.identity.tolist()) == [-1] * 6 + [2, 5]


def test_the_least_recently_seen_identity_is_evicted():
    tracks, one = identity.no_tracks(4, 2), np.float32([[0.5, 0.0], [0.0, 0.5]])
    for frame, pair in enumerate([(0, 1), (2, 3), (0, -1), (7, 1), (8, 9)]):
        tracks = RECORD(tracks, np.int32(pair), one, frame)
    # 7 took the place of 2 or 3, both last seen in frame 1; 1 came back in that frame and stays.
    places = {int(n): (int(f), int(t)) for n, f, t in
              zip(tracks.identity, tracks.frames, tracks.last, strict=True)}
    assert places == {7: (1, 3), 1: (2, 3), 8: (1, 4), 9: (1, 4)}


def test_follow_vmaps():
    masks = jnp.stack([boxes(0, 8), boxes(8, 0)])
    who = jax.tree.map(lambda x: jnp.stack([x, x]), identity.first(4))
    before, masks_before = jnp.stack([jnp.int32([0, 1, -1, -1])] * 2), jnp.stack([boxes(0, 8)] * 2)
    _, assigned = jax.vmap(lambda *x: identity.follow(*x, 0.5))(
        who, masks.any((2, 3)), masks, before, masks_before)
    assert assigned.tolist() == [[0, 1, -1, -1], [1, 0, -1, -1]]
