import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.models.rcf import identity

FOLLOW = jax.jit(identity.follow, static_argnames=("override", "frames"))
RECORD = jax.jit(identity.record)
CELLS = (4, 40)


def boxes(*places, slots=4):
    """Returns a 4 x 4 mask for each slot, at columns `places` of a strip; no mask for None."""
    masks = np.zeros((slots, 4, 40), bool)
    for slot, place in enumerate(places):
        if place is not None:
            masks[slot, :, place : place + 4] = True
    return masks


def video(*frames, override=0.5, back=1):
    """Returns the identities of each frame; slots with a mask fire."""
    who, predictions = identity.first(4, CELLS), []
    for number, masks in enumerate(frames):
        fired = masks.any((1, 2))
        who, assigned = FOLLOW(who, fired, masks, number, override=override, frames=back)
        assert sorted(who.slots.tolist()) == [0, 1, 2, 3], "each slot owns another identity"
        predictions.append(assigned.tolist())
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


def test_the_larger_overlap_wins_and_the_loser_gets_the_identity_of_the_winner():
    # Slots 1 and 2 both overlap the former mask of slot 0; slot 0 fires elsewhere.
    masks = boxes(30, 1, 0)
    assert video(boxes(0), masks)[1] == [2, 1, 0, -1]
    # They have swapped for good.
    assert video(boxes(0), masks, boxes(20, None, 5))[2] == [2, -1, 0, -1]


def test_a_newcomer_does_not_inherit_the_identity_of_a_hidden_object():
    # A in slot 0; A in slot 1; A is hidden while B appears in slot 0; A is back in slot 1.
    predictions = video(boxes(0), boxes(None, 0), boxes(20), boxes(20, 8))
    assert predictions == [[0, -1, -1, -1], [-1, 0, -1, -1], [1, -1, -1, -1], [1, 0, -1, -1]]


def test_the_last_mask_of_a_hidden_object_counts_for_some_frames():
    # A in slot 0 is hidden for two frames and comes back at its place, but in slot 1.
    frames = boxes(0, None, 20), boxes(None, None, 21), boxes(None, None, 22), boxes(None, 1, 23)
    assert [video(*frames, back=back)[3] for back in (1, 2, 3)] == [
        [-1, 1, 2, -1], [-1, 1, 2, -1], [-1, 0, 2, -1]]


def test_identities_of_the_preceding_frame_come_before_older_ones():
    # A is hidden where B then passes: the IoU with A's last mask is 1, that with B's own 3 / 5.
    frames = boxes(8, 5), boxes(None, 6), boxes(None, 7), boxes(None, 8)
    assert [found[1] for found in video(*frames[:2], back=9)] == [1, 1]
    assert [found[1] for found in video(*frames, back=9)] == [1, 1, 1, 1]
    # Without B in the preceding frame, the overlap with A counts.
    assert video(frames[0], boxes(), frames[3], back=9)[2] == [-1, 0, -1, -1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("back", [1, 3])
def test_greedy_pairs_and_swaps_at_random(seed, back):
    """Compares with the rules in plain Python."""
    random = np.random.default_rng(seed)
    slots, last = list(range(4)), {}   # identity -> (frame, mask)
    state = identity.first(4, CELLS)
    for frame in range(12):
        masks = boxes(*[int(random.integers(0, 12)) if random.random() < 0.7 else None
                        for _ in range(4)])
        fired = masks.any((1, 2))
        pairs = []
        for slot, (who, (when, mask)) in itertools.product(range(4), last.items()):
            both, either = (masks[slot] & mask).sum(), (masks[slot] | mask).sum()
            if fired[slot] and when >= frame - back and both / either > 0.5:
                pairs.append((when < frame - 1, -both / either, slot, who))
        used, taken = set(), set()
        for _, _, slot, who in sorted(pairs):
            if slot not in used and who not in taken:
                owner = slots.index(who)
                slots[owner], slots[slot] = slots[slot], who
                used.add(slot)
                taken.add(who)
        state, assigned = FOLLOW(state, fired, masks, frame, override=0.5, frames=back)
        last |= {slots[slot]: (frame, masks[slot]) for slot in np.flatnonzero(fired)}
        assert assigned.tolist() == [slots[i] if fired[i] else -1 for i in range(4)]
        assert state.slots.tolist() == slots
        for who, (when, mask) in last.items():
            assert state.last[who] == when
            np.testing.assert_array_equal(state.masks[who], mask)


def test_the_summary_of_a_video_takes_the_largest_mean_probability():
    tracks = identity.no_tracks(3, 3)
    # Identity 2 is class 1 twice, weakly, and class 0 once, strongly; identity 1 is seen once.
    for slots, probabilities in [
        ([2, -1, -1], [[0.05, 0.4, 0.0], [0.9, 0.9, 0.9], [0.9, 0.9, 0.9]]),
        ([-1, 2, -1], [[0.9, 0.9, 0.9], [0.95, 0.0, 0.0], [0.9, 0.9, 0.9]]),
        ([2, -1, 1], [[0.05, 0.45, 0.0], [0.9, 0.9, 0.9], [0.0, 0.0, 0.6]]),
    ]:
        tracks = RECORD(tracks, np.int32(slots), np.float32(probabilities))
    mean = jax.jit(identity.summary)(tracks)
    assert mean.identity.tolist() == [-1, 1, 2] and mean.frames.tolist() == [0, 1, 3]
    assert mean.category.tolist()[1:] == [2, 0]
    np.testing.assert_allclose(mean.score, [0, 0.6, (0.05 + 0.95 + 0.05) / 3], rtol=1e-6)


def test_follow_vmaps():
    two = jnp.stack([boxes(0, 8), boxes(8, 0)])
    start, _ = identity.follow(
        identity.first(4, CELLS), two[0].any((1, 2)), two[0], jnp.int32(0), 0.5)
    who = jax.tree.map(lambda x: jnp.stack([x, x]), start)
    _, assigned = jax.vmap(
        lambda w, masks: identity.follow(w, masks.any((1, 2)), masks, jnp.int32(1), 0.5))(who, two)
    assert assigned.tolist() == [[0, 1, -1, -1], [1, 0, -1, -1]]
