import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.models.qvim import moco


def keys(*values):
    return jnp.asarray([[v, 0.0] for v in values])


@pytest.fixture
def state():
    return moco.init(jax.random.key(0), 5, 2, {"w": jnp.ones(3)})


def test_starts_with_unit_vectors_of_no_video(state):
    np.testing.assert_allclose(jnp.linalg.norm(state["queue"], axis=1), 1, rtol=1e-5)
    assert moco.negatives(state, jnp.arange(2), True).all()


def test_first_in_first_out_round_the_end(state):
    everyone = jnp.ones(2, bool)
    start = state["queue"]
    for step in range(3):
        first, second = 2.0 * step, 2.0 * step + 1
        state = moco.enqueue(state, keys(first, second), jnp.full(2, step), everyone)
        if step == 0:
            np.testing.assert_array_equal(state["queue"][2:], start[2:])
    # Six keys in five places: key 5 took the place of key 0.
    np.testing.assert_array_equal(state["queue"][:, 0], [5, 1, 2, 3, 4])
    np.testing.assert_array_equal(state["videos"], [2, 0, 1, 1, 2])
    assert state["pointer"] == 1


def test_padding_samples_leave_no_gap(state):
    before = state["queue"]
    valid = jnp.asarray([False, True, False, True])
    state = moco.enqueue(state, keys(6, 7, 8, 9), jnp.arange(4), valid)
    np.testing.assert_array_equal(state["queue"][:2, 0], [7, 9])
    np.testing.assert_array_equal(state["queue"][2:], before[2:])
    np.testing.assert_array_equal(state["videos"], [1, 3, -1, -1, -1])
    assert state["pointer"] == 2


def test_entries_of_the_same_video_are_no_negatives(state):
    state = moco.enqueue(state, keys(0, 1, 2), jnp.asarray([4, 5, 4]), jnp.ones(3, bool))
    allowed = moco.negatives(state, jnp.asarray([4, 6]), True)
    np.testing.assert_array_equal(allowed, [[False, True, False, True, True], [True] * 5])
    assert moco.negatives(state, jnp.asarray([4, 6]), False).all()


def test_momentum_by_hand():
    out = moco.follow({"w": jnp.asarray(1.0)}, {"w": jnp.asarray(3.0)}, 0.9)
    assert out["w"] == pytest.approx(1.2)


def test_no_gradient_into_queue_or_momentum(state):
    def through_queue(k):
        return moco.enqueue(state, k, jnp.zeros(1, jnp.int32), jnp.ones(1, bool))["queue"].sum()

    def through_momentum(w):
        return moco.follow(state["momentum"], {"w": w}, 0.9)["w"].sum()

    np.testing.assert_array_equal(jax.grad(through_queue)(keys(1)), 0)
    np.testing.assert_array_equal(jax.grad(through_momentum)(jnp.ones(3)), 0)


def test_more_keys_than_places_are_rejected(state):
    with pytest.raises(ValueError, match="does not fit a queue of 5"):
        moco.enqueue(state, keys(*range(6)), jnp.arange(6), jnp.ones(6, bool))
