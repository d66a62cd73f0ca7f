import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_mmvt import SMALL
from tiny_models import quick_jit

from vseg_jax.models.mmvt import MmvtConfig
from vseg_jax.models.mmvt.fusion import DynamicFilter, Level

KEYS = jax.random.split(jax.random.key(0), 6)
VISION, FLOW = (jax.random.normal(k, (1, 4, 4, 3)) for k in KEYS[:2])
WORDS, VALID = jax.random.normal(KEYS[2], (1, 3, 8)), jnp.asarray([[True, True, False]])
BELOW = jax.random.normal(KEYS[3], (1, 2, 2, 8))


@pytest.fixture(scope="module", params=[False, True])
def level(request):
    """(bug_compat_gate, parameters, function of them)."""
    module = Level(MmvtConfig(**{**SMALL, "bug_compat_gate": request.param}))
    params = quick_jit(module.init)(KEYS[4], VISION, FLOW, WORDS, VALID, BELOW)["params"]
    run = quick_jit(lambda p: module.apply({"params": p}, VISION, FLOW, WORDS, VALID, BELOW))
    return request.param, params, run


def test_each_stream_is_gated_by_the_other(level):
    compat, params, run = level
    plain = run(params)
    assert plain.out.shape == (1, 4, 4, 8)

    def change(layer):
        """Whether the map changes when a stream's own features stay and a gate opens."""
        gate = {**params[layer], "bias": params[layer]["bias"] + 9}
        after = run({**params, layer: gate})
        np.testing.assert_array_equal(after.vision, plain.vision)
        np.testing.assert_array_equal(after.flow, plain.flow)
        return np.abs(after.out - plain.out).max() > 1e-4

    assert change("vision_gate") and change("flow_gate")
    # With no flow features at all, a gate of flow features is its bias alone.
    silent = jax.tree.map(jnp.zeros_like, params["flow_join"])
    steep = {**params["flow_gate"], "kernel": 9 * params["flow_gate"]["kernel"]}
    without = {**params, "flow_join": silent}
    moved = np.abs(run({**without, "flow_gate": steep}).out - run(without).out).max()
    assert (moved > 1e-4) == compat


def test_a_zero_sentence_embedding_blocks_everything(level):
    _, params, run = level
    silent = run({**params, "sentence": jax.tree.map(jnp.zeros_like, params["sentence"])})
    assert not silent.vision.any() and not silent.flow.any()


def test_dynamic_filters_by_hand():
    x = jnp.arange(32.0).reshape(1, 4, 4, 2)
    words, valid = jnp.ones((1, 1, 2)), jnp.ones((1, 1), bool)
    module = DynamicFilter(3)
    params = quick_jit(module.init)(KEYS[5], x, words, valid)["params"]
    # The same filter everywhere: channel 0 takes its left neighbor, channel 1 twice itself.
    bias = np.zeros((9, 2), np.float32)
    bias[3, 0], bias[4, 1] = 1, 2
    filters = {"kernel": jnp.zeros_like(params["filters"]["kernel"]), "bias": bias.ravel()}
    out = module.apply({"params": {**params, "filters": filters}}, x, words, valid)
    np.testing.assert_array_equal(out[0, :, 1:, 0], x[0, :, :-1, 0])
    np.testing.assert_array_equal(out[0, :, 0, 0], 0)
    np.testing.assert_array_equal(out[..., 1], 2 * x[..., 1])
