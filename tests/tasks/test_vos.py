"""Prompts and corrections, by hand."""

import jax.numpy as jnp
import numpy as np

from vseg_jax.tasks.vos import corrected, named_masks

MASK = jnp.asarray([[1, 2, 0, 255]], jnp.uint8)


def test_a_mask_speaks_for_the_slots_that_have_a_pixel_or_that_are_named():
    masks, named = named_masks({"mask": MASK}, 3)
    np.testing.assert_array_equal(named, [True, True, False])
    np.testing.assert_array_equal(masks[:, 0], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    wanted = jnp.asarray([False, True, True])
    masks, named = named_masks({"mask": MASK, "named": wanted}, 3)
    np.testing.assert_array_equal(named, wanted)
    np.testing.assert_array_equal(masks[:, 0], [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])


def test_named_slots_are_replaced_and_others_only_give_way():
    predicted = jnp.asarray([[0.7, 0.1, 0.6, 0.2], [0.2, 0.3, 0.3, 0.1], [0.1, 0.5, 0.0, 0.7]])
    masks = jnp.asarray([[[0, 0, 1, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]], jnp.float32)
    out = corrected(predicted[:, None], masks, jnp.asarray([True, True, False]))
    np.testing.assert_allclose(
        out[:, 0], [[0, 0, 1, 0], [0, 0, 0, 0], [0.1, 0.5, 0, 0.7]], rtol=1e-6)
