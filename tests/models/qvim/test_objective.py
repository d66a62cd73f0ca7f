import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.losses.masks import binary_cross_entropy
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.objective import pointing_loss, segmentation_loss, shrink

MASK = jnp.asarray([[[1.0, 1, 1, 0], [1, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 0]]])


def test_targets_are_area_averages_over_one_half():
    target, share = shrink(MASK, jnp.ones((1, 4, 4)), (2, 2), soft=False)
    np.testing.assert_array_equal(target[0], [[1, 0], [0, 0]])  # of 3/4, 1/4, 1/2, 1/2
    np.testing.assert_array_equal(share, 1)
    soft, _ = shrink(MASK, jnp.ones((1, 4, 4)), (2, 2), soft=True)
    np.testing.assert_allclose(soft[0], [[0.75, 0.25], [0.5, 0.5]])


def test_void_pixels_take_no_part_in_their_cell():
    weight = jnp.ones((1, 4, 4)).at[0, 2:, 0].set(0).at[0, :2, 2:].set(0)
    target, share = shrink(MASK, weight, (2, 2), soft=True)
    np.testing.assert_allclose(target[0], [[0.75, 0], [1, 0.5]])
    np.testing.assert_allclose(share[0], [[1, 0], [0.5, 1]])


def test_loss_is_the_mean_over_scales():
    responses = (jnp.full((1, 4, 4), 0.3), jnp.full((1, 2, 2), -0.7))
    weight = jnp.ones((1, 4, 4))
    loss, counted = segmentation_loss(responses, MASK, weight, QvimConfig())
    fine, _ = binary_cross_entropy(responses[0], MASK, weight)
    small, _ = shrink(MASK, weight, (2, 2), soft=False)
    coarse, _ = binary_cross_entropy(responses[1], small, jnp.ones((1, 2, 2)))
    np.testing.assert_allclose(loss, (fine + coarse) / 2, rtol=1e-6)
    np.testing.assert_array_equal(counted, [1])


def test_a_fused_map_is_one_more_term_and_k_stays():
    """The factor 1/K of the scales' terms does not depend on `fuse`."""
    scales = (jnp.full((1, 4, 4), 0.3), jnp.full((1, 2, 2), -0.7))
    weight, fused = jnp.ones((1, 4, 4)), jnp.full((1, 4, 4), 1.1)
    plain, _ = segmentation_loss(scales, MASK, weight, QvimConfig())
    term, _ = binary_cross_entropy(fused, MASK, weight)
    loss, counted = segmentation_loss((*scales, fused), MASK, weight, QvimConfig(fuse="conv"))
    np.testing.assert_allclose(loss, plain + term / 2, rtol=1e-6)
    np.testing.assert_array_equal(counted, [1])


def test_void_has_no_gradient_at_any_scale():
    weight = jnp.ones((1, 4, 4)).at[0, :2, :2].set(0)

    def loss(responses):
        return segmentation_loss(responses, MASK, weight, QvimConfig())[0].sum()

    fine, coarse = jax.grad(loss)((jnp.zeros((1, 4, 4)), jnp.zeros((1, 2, 2))))
    np.testing.assert_array_equal(fine[0, :2, :2], 0)
    assert coarse[0, 0, 0] == 0
    assert (jnp.abs(fine) > 0).sum() == 12 and (jnp.abs(coarse) > 0).sum() == 3


def test_pos_weight_and_soft_targets_by_hand():
    weight, response = jnp.ones((1, 4, 4)), jnp.log(3 * jnp.ones((1, 2, 2)))  # probability 3/4
    on, off = -np.log(3 / 4), -np.log(1 / 4)

    def loss(**changes):
        return float(segmentation_loss((response,), MASK, weight, QvimConfig(**changes))[0][0])

    np.testing.assert_allclose(loss(pos_weight=1.5), (1.5 * on + 3 * off) / 4, rtol=1e-5)
    shares = np.array([0.75, 0.25, 0.5, 0.5])
    np.testing.assert_allclose(
        loss(gt_soft=True), (shares * on + (1 - shares) * off).mean(), rtol=1e-5
    )


def test_pointing_loss_by_hand():
    mask = jnp.zeros((2, 4, 4)).at[0, :2, :2].set(1).at[0, 2:, 2].set(1)   # one cell and a half
    weight = jnp.ones_like(mask).at[0, :2, 2:].set(0)    # one cell of the first sample is void
    fine = jnp.asarray([[[0.4, 0.2], [0.1, 0.3]]] * 2)
    coarse = jnp.ones((2, 1, 1))
    loss, counted = pointing_loss((fine, coarse), mask, weight)
    on_fine = (0.4 + 0.3 / 2) / (0.4 + 0.1 + 0.3)
    on_coarse = 6 / 12
    np.testing.assert_allclose(loss, [-np.log([on_fine, on_coarse]).mean(), 0], rtol=1e-5)
    np.testing.assert_array_equal(counted, [1, 0])   # the second sample has no object
