import pytest
import tiny_mmvt
import tiny_models


@pytest.fixture(scope="session")
def model():
    return tiny_mmvt.build()


@pytest.fixture(scope="session")
def variables(model):
    return tiny_models.drawn_variables(model, tiny_mmvt.make_batch())


@pytest.fixture(scope="session")
def loss_and_gradient(model):
    return tiny_models.loss_and_gradient(model)


@pytest.fixture(scope="session")
def predict(model):
    return tiny_models.quick_jit(model.predict)
