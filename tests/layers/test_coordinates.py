import jax.numpy as jnp
import numpy as np

from vseg_jax.layers.coordinates import append_coordinates, coordinates


def test_hand_computed():
    feature = np.asarray(coordinates(2, 4))
    assert feature.shape == (2, 4, 8)
    # Row 1 of 2, column 2 of 4: x from 0 to 0.5, y from 0 to 1.
    np.testing.assert_allclose(feature[1, 2], [0, 0, 0.5, 1, 0.25, 0.5, 1 / 4, 1 / 2])
    np.testing.assert_allclose(feature[0, 0, :2], [-1, -1])
    np.testing.assert_allclose(feature[-1, -1, 2:4], [1, 1])


def test_centers_mirror():
    feature = np.asarray(coordinates(3, 5))
    np.testing.assert_allclose(feature[..., 4], -feature[:, ::-1, 4], atol=1e-7)
    np.testing.assert_allclose(feature[..., 5], -feature[::-1, :, 5], atol=1e-7)


def test_append_keeps_the_map_and_its_dtype():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float16)
    out = append_coordinates(jnp.asarray(x))
    assert out.shape == (2, 3, 4, 13) and out.dtype == np.float16
    np.testing.assert_array_equal(out[..., :5], x)
    np.testing.assert_allclose(out[1, ..., 5:], coordinates(3, 4), atol=1e-3)
