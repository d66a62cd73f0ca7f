import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.layers.projection import Projection, unit


def test_unit_vectors():
    x = jnp.asarray([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(unit(x), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(x)).all()
    assert unit(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_projection_by_hand():
    params = {"hidden": {"kernel": jnp.asarray([[1.0, -1.0]]), "bias": jnp.asarray([0.0, 4.0])},
              "out": {"kernel": jnp.asarray([[1.0, 0.0], [0.0, 2.0]]), "bias": jnp.zeros(2)}}
    out = Projection(2, 2).apply({"params": params}, jnp.asarray([[3.0], [-1.0]], jnp.bfloat16))
    hidden = np.asarray([[3.0, 1.0], [0.0, 5.0]]) * [1, 2]
    wanted = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    np.testing.assert_allclose(out, wanted, rtol=1e-6)
    assert out.dtype == jnp.float32
