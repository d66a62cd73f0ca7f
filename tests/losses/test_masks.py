import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.losses.masks import binary_cross_entropy, dice_coefficients

LOGITS = jnp.log(jnp.asarray([[[3.0, 1.0], [1 / 3, 4.0]]]))  # probabilities 3/4, 1/2, 1/4, 4/5
TARGETS = jnp.asarray([[[1.0, 1.0], [0.0, 0.0]]])


def test_hand_computed():
    loss, counted = binary_cross_entropy(LOGITS, TARGETS, jnp.ones((1, 2, 2)))
    wanted = -(np.log(3 / 4) + np.log(1 / 2) + np.log(3 / 4) + np.log(1 / 5)) / 4
    np.testing.assert_allclose(loss, [wanted], rtol=1e-6)
    np.testing.assert_array_equal(counted, [1])


def test_weights_are_shares_of_the_mean():
    weights = jnp.asarray([[[2.0, 0.0], [1.0, 0.0]]])
    loss, _ = binary_cross_entropy(LOGITS, TARGETS, weights)
    np.testing.assert_allclose(loss, [-(2 * np.log(3 / 4) + np.log(3 / 4)) / 3], rtol=1e-6)


def test_pos_weight_touches_the_foreground_term_only():
    loss, _ = binary_cross_entropy(LOGITS, TARGETS, jnp.ones((1, 2, 2)), pos_weight=1.5)
    wanted = -(1.5 * np.log(3 / 4) + 1.5 * np.log(1 / 2) + np.log(3 / 4) + np.log(1 / 5)) / 4
    np.testing.assert_allclose(loss, [wanted], rtol=1e-6)


def test_a_pixel_of_weight_0_has_no_gradient():
    weights = jnp.asarray([[[1.0, 0.0], [1.0, 1.0]]])
    gradient = jax.grad(lambda x: binary_cross_entropy(x, TARGETS, weights)[0].sum())(LOGITS)
    assert gradient[0, 0, 1] == 0
    assert (jnp.abs(gradient) > 0).sum() == 3


def test_a_map_without_pixels_does_not_count():
    loss, counted = binary_cross_entropy(LOGITS, TARGETS, jnp.zeros((1, 2, 2)))
    assert loss[0] == counted[0] == 0
    gradient = jax.grad(
        lambda x: binary_cross_entropy(x, TARGETS, jnp.zeros((1, 2, 2)))[0].sum()
    )(LOGITS)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_finite_for_any_logit(logit):
    x = jnp.full((1, 1, 1), logit)
    for target in (0.0, 1.0):
        loss, gradient = jax.value_and_grad(
            lambda x, target=target: binary_cross_entropy(
                x, jnp.full((1, 1, 1), target), jnp.ones((1, 1, 1))
            )[0].sum()
        )(x)
        assert jnp.isfinite(loss) and jnp.isfinite(gradient).all()


def test_dice_of_every_pair_by_hand():
    logits = jnp.asarray([[[50.0, 50.0], [-50.0, -50.0]], [[0.0, 0.0], [0.0, 0.0]]])
    masks = jnp.asarray([[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]], jnp.zeros((2, 2))])
    dice = dice_coefficients(logits, masks, jnp.ones((2, 2)))
    wanted = [[5 / 5, 1 / 4, 1 / 3], [3 / 5, 2 / 4, 1 / 3]]
    np.testing.assert_allclose(dice, wanted, rtol=1e-5)
    # Without the lower row the first pair is as before, the second mask has nothing left.
    dice = dice_coefficients(logits, masks, jnp.asarray([[1.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(dice[0], [1, 1 / 3, 1 / 3], rtol=1e-5)
    gradient = jax.grad(lambda x: dice_coefficients(
        x, masks, jnp.asarray([[1.0, 1.0], [0.0, 0.0]]))[1].sum())(logits)
    assert (gradient[1, 0] != 0).all() and (gradient[1, 1] == 0).all()
