import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.backbones.vggish import Vggish

SMALL = Vggish(width=2, hidden=8)
PATCHES = jax.random.normal(jax.random.key(0), (2, 3, 96, 64))


def test_published_size():
    """With the last layer there are 72,141,184 parameters, as in the port."""
    patch = jax.ShapeDtypeStruct((5, 96, 64), jnp.float32)
    for embedding, width, parameters in ((False, 4096, 71_616_768), (True, 128, 72_141_184)):
        output, variables = jax.eval_shape(
            lambda x, e=embedding: Vggish(embedding=e).init_with_output(jax.random.key(0), x), patch
        )
        assert output.shape == (5, width)
        assert sum(x.size for x in jax.tree.leaves(variables)) == parameters


@pytest.fixture(scope="module")
def run():
    variables = jax.jit(SMALL.init)(jax.random.key(1), PATCHES[0])
    return jax.jit(lambda x: SMALL.apply(variables, x))


def test_leading_axes_are_kept_and_patches_are_independent(run):
    features = run(PATCHES)
    assert features.shape == (2, 3, 8)
    np.testing.assert_allclose(features[1], run(PATCHES[1]), rtol=1e-4, atol=1e-5)
    order = np.array([2, 0, 1])
    np.testing.assert_allclose(
        run(PATCHES[0][order]), run(PATCHES[0])[order], rtol=1e-4, atol=1e-5
    )


def test_time_and_frequency_are_not_confused(run):
    early = np.zeros((96, 64), np.float32)
    early[:16] = 1
    high = np.zeros_like(early)
    high[:, 48:] = 1
    predictions = run(jnp.stack([early, early[::-1], high]))
    assert np.abs(predictions[0] - predictions[1]).max() > 1e-3
    assert np.abs(predictions[1] - predictions[2]).max() > 1e-3
