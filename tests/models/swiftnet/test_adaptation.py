import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_swiftnet import build, make_clip, quick_jit

from vseg_jax.models.swiftnet import adaptation
from vseg_jax.models.swiftnet.config import SwiftnetConfig
from vseg_jax.models.swiftnet.copies import changed_copies, warp

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
@pytest.mark.parametrize("reduction", ["mean_i", "sum", "object"])
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
    outside, inside = {"mean_i": (P, P), "sum": (1, 1), "object": ((1 - m).sum(), m.sum())}[
        reduction]
    got = adaptation.losses(config, query, reference, MASKS)
    np.testing.assert_allclose(np.ravel(got), [l_obj / outside, l_bg / inside], rtol=1e-4)


def test_the_reduction_by_object_by_hand():
    """Equal keys read all four places alike, 1.5 of which are the object: h = 3/8 everywhere."""
    masks, empty = jnp.array([[1.0, 0.5, 0, 0], [0, 0, 0, 0]]), jnp.zeros((4, K))
    both = {
        reduction: adaptation.losses(
            SwiftnetConfig(reduction=reduction), empty, jnp.stack([empty] * 2), masks)
        for reduction in ("sum", "mean_i", "object")
    }
    np.testing.assert_allclose(both["sum"], [[2.5 * 3 / 8, 0], [1.5 * 5 / 8, 0]], atol=1e-7)
    np.testing.assert_allclose(both["mean_i"], np.array(both["sum"]) / 4, atol=1e-7)
    np.testing.assert_allclose(both["object"], [[3 / 8, 0], [5 / 8, 0]], atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean_i", "object"])
def test_queries_that_show_nothing_change_no_mean(reduction):
    """A copy equal to the frame, and pixels beyond a border, which have no weight."""
    config = SwiftnetConfig(reduction=reduction)
    query, reference = keys_of_features(KEYS)
    once = adaptation.losses(config, query, reference, MASKS)
    more = jnp.concatenate([query, query, 9 * query])
    regions = adaptation.Regions(*(jnp.concatenate([x, x, 0 * x], axis=1)
                                   for x in (1 - MASKS, MASKS)))
    np.testing.assert_allclose(
        adaptation.losses(config, more, reference, MASKS, regions), once, rtol=1e-5)


def test_adaptation_lowers_both_losses():
    keys, report = run()
    total = report.objects[:, 0] * report.background[0, 0] / report.objects[0, 0]
    total += report.background[:, 0]   # alpha L_obj + L_bg, up to a factor
    assert report.objects.shape == (51, 1)
    assert total[-1] < 0.5 * total[0] and (np.diff(total) < 1e-3).all()
    assert not report.collapsed
    # The report is in shares of the largest losses: of the background's and of the object's pixels.
    for used, place in ((KEYS, 0), (keys, -1)):
        shares = adaptation.losses(
            SwiftnetConfig(reduction="object"), *keys_of_features(used), MASKS)
        np.testing.assert_allclose(
            np.ravel(shares), [report.objects[place, 0], report.background[place, 0]], rtol=1e-5)


def test_a_step_of_the_reduction_by_object_is_larger_by_the_inverse_of_the_objects_share():
    """alpha takes the background's size out, so only that of the object is left."""
    steps = {
        reduction: jax.tree.map(jnp.subtract, run(
            adaptation_steps=1, adaptation_rate=1e-2, reduction=reduction)[0], KEYS)
        for reduction in ("mean_i", "object")
    }
    factor = P / float(MASKS.sum())
    jax.tree.map(lambda m, o: np.testing.assert_allclose(o, factor * m, rtol=1e-2, atol=1e-6),
                 steps["mean_i"], steps["object"])


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
    m = float(MASKS.sum())
    largest = adaptation.bounds(
        SwiftnetConfig(reduction="sum"), adaptation.Regions(1 - MASKS, MASKS))
    np.testing.assert_allclose(np.ravel(largest), [P - m, m], rtol=1e-6)

    def collapsed(obj, bg):
        before, after = ((jnp.asarray([a]), jnp.asarray([b])) for a, b in ((5.0, 4.0), (obj, bg)))
        return bool(adaptation.collapsed(largest, before, after, jnp.asarray([True])))

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


@pytest.fixture(scope="module")
def adapted(variables):
    """(model, state) after two steps."""
    frames, masks = make_clip()
    model = build(adaptation_steps=2, adaptation_rate=1e-3)
    return model, quick_jit(model.start)(variables, frames[0], {"mask": masks[0]})


def test_only_the_key_convolutions_are_adapted(variables, start, adapted):
    frames, masks = make_clip()
    prompt = {"mask": masks[0]}
    copy = jax.tree.map(np.array, variables)
    model, state = adapted
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


def test_the_geometry_of_copies_by_hand():
    planes = jnp.arange(24.0).reshape(1, 4, 6)
    still = {"turn": jnp.array(0.0), "scale": jnp.array(1.0), "shift": jnp.zeros(2),
             "mirrored": jnp.array(False)}
    mirrored = warp(planes, **still | {"mirrored": jnp.array(True)})
    np.testing.assert_allclose(mirrored, planes[:, :, ::-1], atol=1e-4)
    moved = warp(planes, **still | {"shift": jnp.array([0.25, 1 / 3])})   # a row and two columns
    np.testing.assert_allclose(moved[0, 1:, 2:], planes[0, :-1, :-2], atol=1e-4)
    assert not moved[0, 0].any() and not moved[0, :, :2].any()
    square = planes[:, :, :4]
    turned = warp(square, **still | {"turn": jnp.array(np.pi / 2)})   # clockwise
    np.testing.assert_allclose(turned[0], np.rot90(square[0], -1), atol=1e-4)
    ones = jnp.ones((1, 8, 8))
    assert warp(ones, **still | {"scale": jnp.array(0.5)}).sum() == pytest.approx(16, rel=0.1)


def test_the_masks_of_copies_fit_their_frames():
    frame = np.full((32, 48, 3), 60, np.uint8)
    masks = np.zeros((2, 32, 48), np.float32)
    for mask, gray, place in ((masks[0], 160, np.s_[8:20, 6:20]), (masks[1], 110, np.s_[4:9, 30:])):
        mask[place], frame[place] = 1, gray
    frames, shown, copied = changed_copies(jnp.asarray(frame), jnp.asarray(masks), 3)
    again, _, _ = changed_copies(jnp.asarray(frame), jnp.asarray(masks), 3)
    np.testing.assert_array_equal(frames, again)
    assert frames.shape == (3, 32, 48, 3) and frames.dtype == np.uint8
    assert shown.shape == (1, 3, 32, 48) and copied.shape == (2, 3, 32, 48)
    frames, shown, copied = np.array(frames, float), np.array(shown)[0], np.array(copied)
    for copy in range(3):
        background = (copied[:, copy].sum(0) == 0) & (shown[copy] > 0.999)
        gain = np.median(frames[copy][background], axis=0) / 60
        assert (np.abs(gain - 1) <= 0.21).all() and np.ptp(gain) > 0.01   # not gray alone
        for mask, gray in ((copied[0, copy], 160), (copied[1, copy], 110)):
            assert 50 < mask.sum() < 400
            np.testing.assert_allclose(
                frames[copy][mask > 0.999] - gray * gain, 0, atol=4)
        assert not frames[copy][shown[copy] == 0].any()
    assert not np.array_equal(copied[:, 0], copied[:, 1])


def test_copies_of_the_first_frame_are_the_query(variables, adapted):
    frames, masks = make_clip()
    model = build(adaptation_steps=2, adaptation_rate=1e-3, adaptation_copies=2)
    copied = quick_jit(model.start)(variables, frames[0], {"mask": masks[0]})
    same, report = adapted[1], copied.adaptation
    assert report.objects.shape == same.adaptation.objects.shape
    assert np.isfinite(report.objects).all() and report.objects[0].any()
    assert not np.allclose(report.objects[0], same.adaptation.objects[0], rtol=1e-3)
    np.testing.assert_allclose(copied.memory.values, same.memory.values, rtol=1e-5, atol=1e-5)
