import jax
import pytest
import tiny_models
import tiny_qvim


@pytest.fixture(scope="session")
def model():
    return tiny_qvim.build()


@pytest.fixture(scope="session")
def init(model):
    return tiny_models.quick_jit(model.init)


@pytest.fixture(scope="session")
def variables(init):
    return init(jax.random.key(0), tiny_qvim.make_batch())


@pytest.fixture(scope="session")
def loss_and_gradient(model):
    return tiny_models.loss_and_gradient(model, by_all=True)


@pytest.fixture(scope="session")
def predict(model):
    return tiny_models.quick_jit(model.predict)
