import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_swiftnet import build, make_clip, quick_jit

from vseg_jax.models.swiftnet import adaptation
from vseg_jax.models.swiftnet.config import SwiftnetConfig

P, C, K = 24, 6, 4
MASKS = (jnp.arange(P) < 8).astype(jnp.float32)[None].at[0, 8].set(0.4)
# Features of the object's pixels differ a little from the others; keys are linear in the features.
FEATURES = jax.random.normal(jax.random.key(0), (P, C)) + 1.5 * MASKS[0][:, None]
KEYS = {
    name: 0.4 * jax.random.normal(jax.random.key(i + 1), (C, K))
    for i, name in enumerate(adaptation.KEYS)
}


def keys_of_features(keys, objects=1):
    reference = FEATURES @ keys["memory_kv"]
    return FEATURES @ keys["query_kv"], jnp.stack([reference] * objects)


def run(masks=MASKS, present=(True,), **changes):
    config = SwiftnetConfig(**{"adaptation_steps": 50, **changes})
    return adaptation.adapt(
        config, KEYS, lambda k: keys_of_features(k, len(masks)), masks, jnp.asarray(present)
    )


@pytest.mark.parametrize("scale", ["backbone", "none"])
@pytest.mark.parametrize("reduction", ["mean_i", "sum"])
def test_losses_are_equation_3(scale, reduction):
    config = SwiftnetConfig(affinity_scale=scale, reduction=reduction)
    query, reference = keys_of_features(KEYS)
    scores = np.asarray(query) @ np.asarray(reference[0]).T
    if scale == "backbone":
        scores = scores / np.sqrt(K)
    affinity = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    m = np.asarray(MASKS[0])
    l_obj = sum((1 - m[i]) * m[j] * affinity[i, j] for i in range(P) for j in range(P))
    l_bg = sum(m[i] * (1 - m[j]) * affinity[i, j] for i in range(P) for j in range(P))
    size = P if reduction == "mean_i" else 1
    got = adaptation.losses(config, query, reference, MASKS)
    np.testing.assert_allclose(np.ravel(got), [l_obj / size, l_bg / size], rtol=1e-4)


def test_adaptation_lowers_both_losses():
    keys, report = run()
    total = report.objects[:, 0] * report.background[0, 0] / report.objects[0, 0]
    total += report.background[:, 0]
    assert total[0] == pytest.approx(2 * float(report.background[0, 0]))  # both losses start equal
    assert report.objects.shape == (51, 1)
    assert total[-1] < 0.5 * total[0] and (np.diff(total) < 1e-3).all()
    assert not report.collapsed
    again = adaptation.losses(SwiftnetConfig(), *keys_of_features(keys), MASKS)
    np.testing.assert_allclose(
        np.ravel(again), [report.objects[-1, 0], report.background[-1, 0]], rtol=1e-5)


def test_a_step_is_plain_gradient_descent_with_alpha_constant():
    config = SwiftnetConfig(adaptation_steps=1, adaptation_rate=0.5)
    obj, bg = adaptation.losses(config, *keys_of_features(KEYS), MASKS)
    alpha = float(bg[0] / obj[0])

    def total(keys):
        obj, bg = adaptation.losses(config, *keys_of_features(keys), MASKS)
        return alpha * obj[0] + bg[0]

    wanted = jax.tree.map(lambda p, g: p - 0.5 * g, KEYS, jax.grad(total)(KEYS))
    keys, _ = run(adaptation_steps=1, adaptation_rate=0.5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), keys, wanted)


@pytest.mark.parametrize("rate", [1.0, 20.0])
def test_the_printed_sum_collapses_and_the_trained_keys_are_kept(rate):
    keys, report = run(reduction="sum", adaptation_rate=rate)
    assert report.collapsed
    jax.tree.map(np.testing.assert_array_equal, keys, KEYS)
    assert not np.allclose(report.objects[0], report.objects[-1])  # the curves show it


def test_collapse_is_distinguished_from_success():
    config = SwiftnetConfig(reduction="sum")
    m = float(MASKS.sum())

    def collapsed(obj, bg):
        before, after = ((jnp.asarray([a]), jnp.asarray([b])) for a, b in ((5.0, 4.0), (obj, bg)))
        return bool(adaptation.collapsed(config, before, after, MASKS, jnp.asarray([True])))

    assert collapsed(0.0, m) and collapsed(P - m, 0.0)       # the trivial minima
    assert collapsed(6.0, 0.0) and collapsed(0.0, 4.5)       # half-way to them
    assert collapsed(np.nan, 1.0) and collapsed(9.0, 3.0)    # not finite; higher than before
    assert not collapsed(0.0, 0.0) and not collapsed(0.0, 3.0) and not collapsed(5.5, 2.0)


def test_objects_are_summed_each_with_its_own_alpha():
    second = (jnp.arange(P) >= 16).astype(jnp.float32)[None]
    both = jnp.concatenate([MASKS, second])
    one, two, joint = (
        run(m, present, adaptation_steps=1)[0]
        for m, present in ((MASKS, (True,)), (second, (True,)), (both, (True, True)))
    )
    jax.tree.map(
        lambda j, a, b, k: np.testing.assert_allclose(j - k, (a - k) + (b - k), atol=1e-6),
        joint, one, two, KEYS,
    )


def test_an_empty_slot_changes_nothing():
    alone, report = run()
    beside, report_2 = run(jnp.concatenate([MASKS, jnp.zeros((1, P))]), (True, False))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), alone, beside)
    assert (report_2.objects[:, 1] == 0).all() and (report_2.background[:, 1] == 0).all()
    assert bool(report.collapsed) == bool(report_2.collapsed)


def test_masks_are_downscaled_by_area():
    masks = jnp.zeros((1, 32, 32)).at[0, :24, :16].set(1)
    np.testing.assert_allclose(adaptation.small_masks(masks, (2, 2)), [[1, 0, 0.5, 0]])
    masks = masks.at[0, 0, 0].set(0)  # a single pixel, which bilinear sampling would miss
    assert adaptation.small_masks(masks, (2, 2))[0, 0] < 1


def test_only_the_key_convolutions_are_adapted(variables, start):
    frames, masks = make_clip()
    prompt = {"mask": masks[0]}
    copy = jax.tree.map(np.array, variables)
    model = build(adaptation_steps=2, adaptation_rate=1e-3)
    state = quick_jit(model.start)(variables, frames[0], prompt)
    jax.tree.map(np.testing.assert_array_equal, variables, copy)
    assert not state.adaptation.collapsed
    used = adaptation.with_keys(variables, state.keys)
    changed = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(used), jax.tree.leaves(variables), strict=True)
        if not np.array_equal(a, b)
    }
    # The memory's bias adds a constant to the scores of a query pixel, which softmax ignores.
    assert changed >= {f"params/{name}/key/kernel" for name in adaptation.KEYS}
    assert changed <= {f"params/{name}/key/{leaf}" for name in adaptation.KEYS
                       for leaf in ("kernel", "bias")}
    grown, count = model.grow(state, 4), len(state.present)
    np.testing.assert_array_equal(grown.adaptation.objects[:, :count], state.adaptation.objects)
    np.testing.assert_array_equal(grown.adaptation.background[:, count:], 0)
    plain = start(variables, frames[0], prompt)
    assert plain.keys is None and plain.adaptation is None
    assert not np.array_equal(plain.memory.keys, state.memory.keys)
    np.testing.assert_allclose(plain.memory.values, state.memory.values, rtol=1e-5, atol=1e-5)
