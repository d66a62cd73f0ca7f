import jax
import jax.numpy as jnp
import pytest
import tiny_rcf

KEY = jax.random.key(5)


@pytest.fixture(scope="session")
def model():
    return tiny_rcf.build()


@pytest.fixture(scope="session")
def variables(model):
    return tiny_rcf.quick_jit(model.init)(jax.random.key(0), tiny_rcf.make_batch())


@pytest.fixture(scope="session")
def first_step(model):
    return tiny_rcf.quick_jit(model.first_step)


@pytest.fixture(scope="session")
def step(model):
    return tiny_rcf.quick_jit(model.step)


@pytest.fixture(scope="session")
def predict(model):
    """For batches of two."""
    return tiny_rcf.quick_jit(model.predict)


@pytest.fixture(scope="session")
def loss_and_gradient(model):
    """(variables, batch) -> ((loss, (updates, means)), gradient by `params`)."""

    def loss(params, rest, batch):
        value, *others = model.loss({"params": params, **rest}, batch, KEY, jnp.int32(0))
        return value, others

    compiled = tiny_rcf.quick_jit(jax.value_and_grad(loss, has_aux=True))
    return lambda variables, batch: compiled(
        variables["params"], {"batch_stats": variables["batch_stats"]}, batch)
