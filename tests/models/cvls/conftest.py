import jax
import pytest
import tiny_cvls


@pytest.fixture(scope="session")
def model():
    return tiny_cvls.build()


@pytest.fixture(scope="session")
def init(model):
    return tiny_cvls.quick_jit(model.init)


@pytest.fixture(scope="session")
def variables(init):
    return init(jax.random.key(0), tiny_cvls.make_batch())


@pytest.fixture(scope="session")
def loss_and_gradient(model):
    """(variables, batch) -> ((loss, (updates, means)), gradient by the parameters)."""

    def loss(params, rest, batch):
        value, updates, means = model.loss(
            {"params": params, **rest}, batch, jax.random.key(1), jax.numpy.int32(0)
        )
        return value, (updates, means)

    compiled = tiny_cvls.quick_jit(jax.value_and_grad(loss, has_aux=True))

    def call(variables, batch):
        rest = {k: v for k, v in variables.items() if k != "params"}
        return compiled(variables["params"], rest, batch)

    return call


@pytest.fixture(scope="session")
def predict(model):
    return tiny_cvls.quick_jit(model.predict)
