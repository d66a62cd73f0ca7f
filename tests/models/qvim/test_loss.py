"""The total loss and its metrics for given outputs of the network, which is not run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import GivenOutput, quick_jit
from tiny_qvim import build, make_batch

from vseg_jax.models.qvim import constraint, robustnet
from vseg_jax.models.qvim.config import ComparedConfig
from vseg_jax.models.qvim.network import Output
from vseg_jax.models.qvim.objective import pointing_loss, segmentation_loss

RANDOM = np.random.default_rng(0)
LATE = jnp.int32(9)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def given(batch, **changes):
    """A model whose network returns random features, and logits right in sample 0 only."""
    model = build(**changes)
    mask = batch["masks"][:, 1] == 1
    mask = mask.at[1].set(~mask[1])
    even, weights = jnp.full((4, 2, 2), 0.25), jnp.asarray([[[0.5, 0.1], [0.2, 0.2]]] * 4)
    model.network = GivenOutput(Output(
        logits=jnp.where(mask, 9.0, -9.0),
        responses=tuple(normal(4, n, n) for n in (8, 4, 2, 1, 1)),
        pooled=tuple(normal(4, 8) for _ in range(5)),
        pooling=(even, weights, even, even, even),
        attention=(None,) * 5,
        visual=tuple(normal(4, 2, 2, 3) for _ in range(5)),
        query=normal(4, 8),
        words=tuple(normal(4, 5, 8) for _ in range(5)),
        normalized={"1": normal(4, 2, 2, 3)},
    ))
    heads, state = constraint.init(model.config, jax.random.key(0))
    return model, {"params": {"contrast": heads}, "batch_stats": {}, "moco": state}


def means_of(model, variables, batch, step=LATE):
    total, _, means = model.loss(variables, batch, jax.random.key(0), step)
    return total, means


def test_total_is_the_weighted_sum_of_its_terms():
    batch = {k: jnp.asarray(v) for k, v in make_batch().items()}
    whitening = ComparedConfig("irw", whitening_weight=0.5, irw_relax=0.0)
    model, variables = given(
        batch, contrast_weight=0.25, pointing_weight=2.0, compared=whitening, qfa_scales=(),
        am_adain_scales=(),
    )
    output, c = model.network.output, model.config
    mask = (batch["masks"][:, 1] == 1).astype(jnp.float32)

    @quick_jit
    def both(valid):
        heads, state = variables["params"]["contrast"], variables["moco"]
        now, weight = {**batch, "valid": valid}, jnp.ones_like(mask) * valid[:, None, None]
        return means_of(model, variables, now), {
            "segmentation": segmentation_loss(output.responses, mask, weight, c)[0],
            "pointing": pointing_loss(output.pooling, mask, weight)[0],
            "contrast": constraint.loss(c, heads, state, now, output, LATE)[0],
            "whitening": robustnet.loss(c, None, now, output)[0],
        }

    # The IoU is 1 but for sample 1, which is wrong everywhere.
    for samples, iou in (([0, 1, 3], 2), ([0], 1), ([], 0)):
        (total, means), each = both(jnp.isin(jnp.arange(4), jnp.asarray(samples)))
        count, sums = len(samples), {name: values.sum() for name, values in each.items()}
        assert not samples or min(sums.values()) > 0.01
        wanted = sums["segmentation"] + 2 * sums["pointing"] + 0.25 * sums["contrast"]
        wanted += 0.5 * sums["whitening"]
        np.testing.assert_allclose(total, wanted / max(count, 1), rtol=1e-5)
        for name, value in {**sums, "loss": wanted, "iou": iou}.items():
            np.testing.assert_allclose(means[name], (value, count), rtol=1e-5)


@pytest.mark.parametrize(
    ("step", "beta", "object_gone"), [(9, 1.0, 1), (0, 0.0, 0)], ids=["last", "before QFA"]
)
def test_metrics_of_qfa_by_hand(step, beta, object_gone):
    batch = make_batch()
    batch["masks"][:] = 0
    batch["masks"][:, :, 16:, :16] = 1    # cell (1, 0), of relative weight 0.8
    batch["masks"][0, :, :16, :16] = 255  # cell (0, 0), the peak, is not counted in sample 0
    batch = jax.tree.map(jnp.asarray, batch)
    model, variables = given(batch, qfa_scales=(2,), contrast=False)
    _, means = quick_jit(lambda: means_of(model, variables, batch, jnp.int32(step)))()
    # Background: the peak (kept in three samples) and two cells of relative weights 0.4 and 0.8.
    wanted = {"qfa_beta": (4 * beta, 4), "qfa_background": (8 * object_gone, 11),
              "qfa_object": (4 * object_gone, 4)}
    for name, value in wanted.items():
        np.testing.assert_allclose(means[name], value, rtol=1e-5)
