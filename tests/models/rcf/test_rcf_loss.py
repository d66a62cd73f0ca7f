"""The total loss for given outputs of the network, which is not run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_rcf import build, make_batch, quick_jit

from vseg_jax.models.rcf.network import Output
from vseg_jax.models.rcf.objective import terms, truth

RANDOM = np.random.default_rng(0)
LAYERS, SLOTS, CLASSES = 3, 4, 4


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


class GivenOutput:
    """Stands in for the network; its backbone returns maps of one cell."""

    def __init__(self, frames):
        self.output = Output(normal(LAYERS, frames, SLOTS, CLASSES),
                             normal(LAYERS, frames, SLOTS, 16, 16), None)

    def apply(self, variables, *inputs, method=None, **options):
        if method == "encode":
            return (jnp.zeros((inputs[0].shape[0], 1, 1, 8)),) * 4, {}
        return self.output


@pytest.mark.parametrize("order", [False, True])
def test_total_is_the_sum_over_slots_and_layers_per_counted_frame(order):
    model, frames = build(order_supervision=order), 2 if order else 1
    model.network = GivenOutput(3 * frames)

    @quick_jit
    def both(batch):
        total, _, means = model.loss({}, batch, jax.random.key(0), jnp.int32(0))
        output, targets = model.network.output, truth(batch, frames)
        each = jax.vmap(lambda c, m: terms(c, m, targets, model.config.eos_coef))(
            output.classes.reshape(LAYERS, 3, frames, SLOTS, CLASSES),
            output.masks.reshape(LAYERS, 3, frames, SLOTS, 16, 16),
        )
        return total, means, each

    for valid in ([True] * 3, [False, True, False], [False] * 3):
        batch = {**make_batch(size=3), "valid": np.array(valid)}
        total, means, each = both(batch)
        count = frames * sum(valid)
        expected = float(each.classes.sum() + each.dice.sum())
        np.testing.assert_allclose(total, expected / max(count, 1), rtol=1e-5)
        last = {name: values[-1].sum() for name, values in each._asdict().items()}
        wanted = {"loss": (expected, count), "class": (last["classes"], count)}
        for name in ("dice", "iou", "correct"):
            wanted[name] = last[name], 2 * count   # two objects in each frame
        for name, value in wanted.items():
            np.testing.assert_allclose(means[name], value, rtol=1e-5)
