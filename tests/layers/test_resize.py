import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.layers import resize


def row(*values):
    return jnp.asarray(values, jnp.float32).reshape(1, 1, -1, 1)


def test_bilinear_corners_by_hand():
    out = resize.bilinear(row(0, 1, 2), (1, 5), align_corners=True)
    np.testing.assert_allclose(out.ravel(), [0, 0.5, 1, 1.5, 2], atol=1e-6)


def test_bilinear_edges_by_hand():
    # Centers of the four output cells lie at -0.25, 0.25, 0.75, 1.25 of the input; ends clamp.
    out = resize.bilinear(row(0, 4), (1, 4), align_corners=False)
    np.testing.assert_allclose(out.ravel(), [0, 1, 3, 4], atol=1e-6)
    # Going down it reads two neighbors only: no anti-aliasing.
    out = resize.bilinear(row(0, 2, 4, 9, 9, 4, 2, 0), (1, 2), align_corners=False)
    np.testing.assert_allclose(out.ravel(), [3, 3], atol=1e-6)


@pytest.mark.parametrize("align_corners", [True, False])
def test_bilinear_axes_are_independent_and_constants_stay(align_corners):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 4)), jnp.float32)
    out = resize.bilinear(x, (7, 2), align_corners=align_corners)
    turned = resize.bilinear(x.swapaxes(1, 2), (2, 7), align_corners=align_corners)
    np.testing.assert_allclose(out, turned.swapaxes(1, 2), atol=1e-6)
    same = resize.bilinear(jnp.ones((2, 3, 5, 1)), (7, 2), align_corners=align_corners)
    np.testing.assert_allclose(same, 1, atol=1e-6)
    np.testing.assert_allclose(
        resize.bilinear(x, (3, 5), align_corners=align_corners), x, atol=1e-6
    )


def test_area_is_average_pooling_and_keeps_the_mean():
    x = jnp.arange(16.0).reshape(4, 4, 1)
    np.testing.assert_allclose(
        resize.area(x, (2, 2))[..., 0], [[2.5, 4.5], [10.5, 12.5]]
    )
    # 5 -> 3: the windows are [0, 2), [1, 4), [3, 5), as torch's adaptive pooling takes them.
    np.testing.assert_allclose(
        resize.area(row(0, 1, 2, 3, 4), (1, 3)).ravel(), [0.5, 2, 3.5], atol=1e-6
    )


def test_nearest_keeps_labels():
    labels = jnp.asarray([[0, 255, 7]], jnp.uint8)[..., None]
    out = resize.nearest(labels, (2, 5))
    assert out.dtype == jnp.uint8
    np.testing.assert_array_equal(out[..., 0], [[0, 0, 255, 255, 7]] * 2)


def test_gradient_spreads_by_the_weights():
    gradient = jax.grad(lambda x: resize.bilinear(x, (1, 5), align_corners=True)[0, 0, 1, 0])(
        row(0, 1, 2)
    )
    np.testing.assert_allclose(gradient.ravel(), [0.5, 0.5, 0], atol=1e-6)


def test_empty_size_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        resize.nearest(row(1), (0, 3))
