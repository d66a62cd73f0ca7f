"""The types of the model interface work under JAX's transformations."""

import jax
import jax.numpy as jnp

from vseg_jax.models.base import Prediction


def test_a_prediction_may_hold_shapes():
    def predict(x):
        return Prediction(logits=x[None], scores=x.mean(axis=(0, 1))[None], frame=jnp.int32(0))

    shapes = jax.eval_shape(predict, jax.ShapeDtypeStruct((4, 6), jnp.float32))
    assert (shapes.logits.shape, shapes.scores.shape) == ((1, 4, 6), (1,))
    assert shapes.frame.dtype == "int32"
