import jax
import jax.numpy as jnp
import pytest
import tiny_swiftnet

KEY = jax.random.key(5)


@pytest.fixture(scope="session")
def model():
    return tiny_swiftnet.build()


@pytest.fixture(scope="session")
def variables(model):
    return tiny_swiftnet.quick_jit(model.init)(jax.random.key(0), tiny_swiftnet.make_batch())


@pytest.fixture(scope="session")
def start(model):
    return tiny_swiftnet.quick_jit(model.start)


@pytest.fixture(scope="session")
def step(model):
    """Compiled twice: with a prompt, and without."""
    return tiny_swiftnet.quick_jit(model.step)


@pytest.fixture(scope="session")
def loss_and_gradient(model):
    """(variables, batch) -> ((loss, means), gradient by `params`)."""

    def loss(params, rest, batch):
        value, updates, means = model.loss({"params": params, **rest}, batch, KEY, jnp.int32(0))
        assert updates == {}
        return value, means

    compiled = tiny_swiftnet.quick_jit(jax.value_and_grad(loss, has_aux=True))
    return lambda variables, batch: compiled(
        variables["params"], {"batch_stats": variables["batch_stats"]}, batch)
