import jax
import pytest
import tiny_qvim


@pytest.fixture(scope="session")
def model():
    return tiny_qvim.build()


@pytest.fixture(scope="session")
def init(model):
    return tiny_qvim.quick_jit(model.init)


@pytest.fixture(scope="session")
def variables(init):
    return init(jax.random.key(0), tiny_qvim.make_batch())


@pytest.fixture(scope="session")
def loss_and_gradient(model):
    """(variables, batch, key, step) -> ((loss, (updates, means)), gradient by all variables)."""

    def loss(variables, batch, key, step):
        value, updates, means = model.loss(variables, batch, key, step)
        return value, (updates, means)

    return tiny_qvim.quick_jit(jax.value_and_grad(loss, has_aux=True, allow_int=True))


@pytest.fixture(scope="session")
def predict(model):
    return tiny_qvim.quick_jit(model.predict)
