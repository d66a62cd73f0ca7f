import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_mmvt


@pytest.fixture(scope="session")
def model():
    return tiny_mmvt.build()


@pytest.fixture(scope="session")
def variables(model):
    """Random ones of `init`'s shapes, drawn without compiling it."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        width = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 25
        return (random.standard_normal(leaf.shape) / np.sqrt(width)).astype(np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), tiny_mmvt.make_batch())
    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="session")
def loss_and_gradient(model):
    """(variables, batch) -> ((loss, (updates, means)), gradient by `params`)."""

    def loss(params, rest, batch):
        key = jax.random.key(5)
        value, updates, means = model.loss({"params": params, **rest}, batch, key, jnp.int32(0))
        return value, (updates, means)

    compiled = tiny_mmvt.quick_jit(jax.value_and_grad(loss, has_aux=True))
    return lambda variables, batch: compiled(
        variables["params"], {"batch_stats": variables["batch_stats"]}, batch)


@pytest.fixture(scope="session")
def predict(model):
    return tiny_mmvt.quick_jit(model.predict)
