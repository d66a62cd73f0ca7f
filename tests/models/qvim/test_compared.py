"""The compared methods in qvim: scales, modalities, schedules, training and inference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models
import tiny_qvim

from vseg_jax.models.qvim import robustnet, styles
from vseg_jax.models.qvim.config import ComparedConfig, QvimConfig
from vseg_jax.models.qvim.network import Output
from vseg_jax.models.qvim.perturbations import perturbations
from vseg_jax.models.qvim.whitening import instance_norm

METHODS = ("sfa", "adain", "mixstyle", "dsu")
BASELINE = {"qfa_scales": (), "am_adain_scales": (), "contrast": False}
V = jax.random.normal(jax.random.key(0), (4, 3, 5, 2)) * 2 + 1
WORDS = jax.random.normal(jax.random.key(1), (4, 3, 2)) + 1
PRESENT = jnp.asarray([[True] * 3, [True, True, False], [True] * 3, [True, True, False]])
WORDS = jnp.where(PRESENT[..., None], WORDS, 0)


def config(**changes):
    return QvimConfig(**BASELINE, total_steps=10, compared=ComparedConfig(**changes))


def drawn(key=0, step=1000, valid=(True,) * 4, **changes):
    batch = {"video": jnp.arange(4), "valid": jnp.asarray(valid)}
    changes = {"prob": 1.0, **changes}
    return perturbations(config(**changes), batch, jax.random.key(key), jnp.int32(step))


@pytest.mark.parametrize("method", METHODS)
def test_scales_modalities_and_draws(method):
    both = drawn(method=method, scales=(1, 3), modality="both")
    np.testing.assert_array_equal(both.visual(2, V), V)
    np.testing.assert_array_equal(both.words(2, WORDS, PRESENT), WORDS)
    first, third, words = both.visual(1, V), both.visual(3, V), both.words(1, WORDS, PRESENT)
    assert (first != V).any() and (third != first).any() and (words != WORDS).any()
    np.testing.assert_array_equal(np.asarray(words)[~PRESENT], 0)
    np.testing.assert_array_equal(both.visual(1, V), first)
    assert (drawn(key=1, method=method).visual(1, V) != first).any()
    visual = drawn(method=method)
    np.testing.assert_array_equal(visual.words(1, WORDS, PRESENT), WORDS)
    text = drawn(method=method, modality="text")
    np.testing.assert_array_equal(text.visual(1, V), V)
    assert (text.words(1, WORDS, PRESENT) != WORDS).any()
    assert first.dtype == jnp.float32
    assert visual.visual(1, V.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_each_method_is_itself():
    out = drawn(method="adain").visual(1, V)
    mean = np.asarray(out.mean((1, 2)))
    np.testing.assert_allclose(np.sort(mean, 0), np.sort(V.mean((1, 2)), 0), rtol=1e-4)
    near = drawn(method="mixstyle", mixstyle_alpha=1e4).visual(1, V)  # all shares near a half
    halves = [
        np.abs(near - styles.mixstyle(V, jnp.asarray(other), jnp.full(4, 0.5))).max()
        for other in np.stack(np.meshgrid(*[range(4)] * 4), -1).reshape(-1, 4)
        if len(set(other)) == 4
    ]
    assert min(halves) < 0.1
    quiet = drawn(method="sfa", sfa_noise=1e-3).visual(1, V)
    assert 0 < np.abs(quiet - V).max() < 0.05


def test_how_often():
    def used(method, **changes):
        hits = [
            (drawn(key, method=method, prob=0.5, **changes).visual(1, V) != V).any()
            for key in range(12)
        ]
        return sum(hits)

    assert 2 <= used("dsu") <= 10
    assert (drawn(method="dsu", prob=0.0).visual(1, V) == V).all()


def test_sfa_starts_at_its_step():
    for step, started in ((499, False), (500, True)):
        assert (drawn(method="sfa", step=step).visual(1, V) != V).any() == started


@pytest.mark.parametrize("method", ["adain", "mixstyle", "dsu"])
def test_padding_samples_give_no_style(method):
    valid = np.array([True, False, True, True])
    for key in range(3):
        given = drawn(key, method=method, valid=valid)
        out, other = given.visual(1, V), given.visual(1, V.at[1].mul(50.0))
        np.testing.assert_array_equal(out[valid], other[valid])


def test_a_batch_of_one_has_no_other_style():
    batch = {"video": jnp.arange(1), "valid": jnp.ones(1, bool)}
    with pytest.raises(ValueError, match="adain takes styles from other samples"):
        perturbations(config(method="adain"), batch, jax.random.key(0), jnp.int32(0))


@pytest.mark.parametrize(
    "wrong,message",
    [
        ({"method": "dsu", "scales": (0,)}, "name scales from 1"),
        ({"method": "dsu", "scales": ()}, "name scales from 1"),
        ({"method": "isw", "modality": "both"}, "no such copy of text"),
        ({"method": "isw", "isw_trials": 0}, "isw_trials is 0"),
    ],
)
def test_wrong_settings_are_rejected(wrong, message):
    with pytest.raises(ValueError, match=message):
        ComparedConfig(**wrong)
    with pytest.raises(ValueError, match="qvim_feedback changes"):
        QvimConfig(qvim_feedback=True, compared=ComparedConfig("isw"))


# Measuring: two clips, encoded as maps of three channels.
MAPS = jax.random.normal(jax.random.key(2), (2, 4, 4, 3))
ISW = {"method": "isw", "scales": (2,), "isw_start": 0.3, "isw_images": 4, "isw_trials": 2,
       "isw_clusters": 2}


@pytest.fixture(scope="module")
def measured():
    """ISW's states before each of ten training steps."""
    c = config(**ISW)
    batch = {"frames": jnp.zeros((2, 1, 4, 4, 3), jnp.uint8), "valid": jnp.ones(2, bool)}

    @jax.jit
    def follow(state, step):
        maps = iter([MAPS.at[..., 1].add(2 * MAPS[..., 0]), MAPS])  # other colors, original

        def encode(frames):
            return {"2": instance_norm(next(maps))}

        return robustnet.measure(c, state, batch, encode, jax.random.key(0), step)

    states = [robustnet.init({"2": MAPS})]
    for step in range(9):
        states.append(follow(states[-1], jnp.int32(step)))
    return states


def test_measuring_starts_in_time_and_ends_with_the_last_mask(measured):
    assert [int(s["trials"]) for s in measured] == [0, 0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert [float(s["count"]) for s in measured] == [0, 0, 0, 0, 2, 0, 2, 0, 0, 0]
    assert set(measured[0]["masks"]) == {"2"}
    np.testing.assert_array_equal(measured[5]["masks"]["2"], np.arange(9).reshape(3, 3) == 1)
    np.testing.assert_array_equal(measured[9]["total"]["2"], 0)


def test_the_loss_starts_when_measuring_has_ended(measured):
    output = Output(*[None] * len(Output._fields))._replace(normalized={"2": MAPS})
    batch = {"valid": jnp.asarray([True, False])}
    each, counted = robustnet.loss(config(**ISW), measured[6], batch, output)
    assert not each.any() and not counted.any()
    each, counted = robustnet.loss(config(**ISW), measured[7], batch, output)
    assert each[0] > 0 and each[1] == 0
    np.testing.assert_array_equal(counted, [1, 0])


def shapes_of_the_loss(model, batch):
    variables = jax.eval_shape(model.init, jax.random.key(0), batch)
    loss = jax.eval_shape(model.loss, variables, batch, jax.random.key(0), jnp.int32(0))
    return variables, loss


@pytest.mark.parametrize("method,modality", [
    ("sfa", "both"), ("dsu", "both"), ("adain", "text"), ("in", "both"), ("irw", "both"),
    ("isw", "visual"),
])
def test_every_method_works_in_training(method, modality):
    """It has no parameters of its own."""
    model = tiny_qvim.build(
        **BASELINE, compared=ComparedConfig(method, scales=(1, 4), modality=modality)
    )
    variables, (total, updates, means) = shapes_of_the_loss(model, tiny_qvim.make_batch())
    assert total.shape == ()
    assert ("whitening" in means) == (method in ("irw", "isw"))
    assert ("whitening" in variables) == (method == "isw")
    assert {*updates, "params"} == set(variables)
    for name in updates:
        assert jax.tree.map(lambda x: (x.shape, x.dtype), updates[name]) == jax.tree.map(
            lambda x: (x.shape, x.dtype), variables[name]
        )
    plain = jax.eval_shape(tiny_qvim.build(**BASELINE).init, jax.random.key(0),
                           tiny_qvim.make_batch())
    assert jax.tree.structure(plain["params"]) == jax.tree.structure(variables["params"])


def test_inference_is_the_baselines_except_for_the_normalization():
    batch = tiny_qvim.make_batch()
    variables = jax.eval_shape(tiny_qvim.build(**BASELINE).init, jax.random.key(0), batch)

    def trace(**changes):
        model = tiny_qvim.build(**BASELINE, compared=ComparedConfig(**changes))
        return str(jax.make_jaxpr(model.predict)(variables, batch))

    plain = trace()
    for method in METHODS:
        assert trace(method=method, modality="both") == plain
    assert trace(method="in") == trace(method="irw") != plain


@pytest.fixture(scope="module")
def trained():
    """Two steps with ISW, the first of which measures."""
    isw = ComparedConfig("isw", scales=(1, 2), isw_start=0.0, isw_images=4, isw_trials=1)
    model = tiny_qvim.build(**BASELINE, compared=isw)
    batch = jax.tree.map(jnp.asarray, tiny_qvim.make_batch())
    variables = tiny_models.quick_jit(model.init)(jax.random.key(0), batch)

    def loss(params, rest, step):
        value, updates, means = model.loss(
            {**rest, "params": params}, batch, jax.random.key(5), step
        )
        return value, (updates, means)

    step = tiny_models.quick_jit(jax.value_and_grad(loss, has_aux=True))
    rest = {k: v for k, v in variables.items() if k != "params"}
    first = step(variables["params"], rest, jnp.int32(0))
    return first, step(variables["params"], first[0][1][0], jnp.int32(1))


def test_isw_in_training(trained):
    (loss, (updates, means)), _ = trained[0]
    assert np.isfinite(loss) and means["whitening"][1] == 0
    assert updates["whitening"]["trials"] == 1
    for mask in updates["whitening"]["masks"].values():
        assert 0 < mask.sum() < mask.size / 2
    (later, (after, means)), gradient = trained[1]
    value = means["whitening"][0] / means["whitening"][1]
    assert value > 0 and means["whitening"][1] == 4
    np.testing.assert_allclose(later, means["segmentation"][0] / 4 + 0.6 * value, rtol=1e-5)
    assert after["whitening"]["trials"] == 1
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
