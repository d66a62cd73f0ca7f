"""The compared methods inside the backbone, at the depths of their papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models
import tiny_qvim

from vseg_jax.models.qvim import robustnet, styles
from vseg_jax.models.qvim.config import ComparedConfig, QvimConfig
from vseg_jax.models.qvim.encoders import method_places
from vseg_jax.models.qvim.network import Output
from vseg_jax.models.qvim.perturbations import perturbations
from vseg_jax.models.qvim.whitening import instance_norm

BASELINE = {"qfa_scales": (), "am_adain_scales": (), "contrast": False}
STYLES = ("adain", "mixstyle")
ROBUSTNET = ("in", "irw", "isw")
PERTURBING = ("sfa", "dsu", *STYLES)
V = jax.random.normal(jax.random.key(0), (4, 2, 3, 5, 2)) * 2 + 1  # clips of two frames
BATCH = jax.tree.map(jnp.asarray, tiny_qvim.make_batch())
INPUTS = tuple(BATCH[name] for name in ("frames", "target", "tokens", "tokens_valid"))


def build(method, **changes):
    compared = ComparedConfig(method, place="backbone", prob=1.0, sfa_start=0, **changes)
    return tiny_qvim.build(**BASELINE, compared=compared)


def drawn(method, key=0, **changes):
    compared = ComparedConfig(method, place="backbone", **{"prob": 1.0, "sfa_start": 0, **changes})
    batch = {"video": jnp.arange(4), "valid": jnp.ones(4, bool)}
    config = QvimConfig(**BASELINE, backbone="resnet18", compared=compared)
    return perturbations(config, batch, jax.random.key(key), jnp.int32(0))


@pytest.mark.parametrize(
    ("backbone", "methods", "places"),
    [
        ("resnet50", STYLES, ("layer1", "layer2")),
        ("resnet50", ["dsu"], ("conv1", "pool", "layer1", "layer2", "layer3", "layer4")),
        ("resnet50", ["sfa"], ("layer4",)),
        ("resnet50", ROBUSTNET, ("norm1", "layer1_sum", "layer2_sum")),
        ("i3d", STYLES, ("conv_2c", "mixed_3c")),
        ("i3d", ["dsu"],
         ("conv_1a_conv", "pool_2a", "conv_2c", "mixed_3c", "mixed_4f", "mixed_5c")),
        ("i3d", ["sfa"], ("mixed_5c",)),
        ("i3d", ROBUSTNET, ("conv_1a_norm", "conv_2c", "mixed_3c")),
    ],
)
def test_each_method_reaches_the_places_of_its_paper(backbone, methods, places):
    for method in methods:
        compared = ComparedConfig(method, place="backbone")
        model = tiny_qvim.build(
            **BASELINE, backbone=backbone, i3d_width=0.05, compared=compared
        )
        assert method_places(model.config) == places
        seen = []

        def record(place, x, seen=seen):
            seen.append(place)
            assert x.shape[0] == 4 and x.ndim == 5  # clips, with their time axis
            return x

        perturb = drawn("dsu")._replace(backbone=record)
        output = jax.eval_shape(
            lambda *arrays, model=model, perturb=perturb: model.network.init_with_output(
                jax.random.key(0), *arrays, train=False, perturb=perturb, method="full"
            )[0], *INPUTS,
        )
        assert tuple(seen) == places
        # jit sorts the keys of dictionaries.
        assert set(output.normalized) == (set(places) if method in ROBUSTNET else set())


@pytest.fixture(scope="module")
def weights():
    drawn = tiny_models.drawn_variables(tiny_qvim.build(**BASELINE), BATCH)
    return jax.tree.map(jnp.asarray, drawn)


def differ(a, b):
    """Whether two programs' maps differ by more than rounding."""
    return not np.allclose(a, b, rtol=1e-4, atol=1e-5)


def maps(model, weights, perturb):
    """The maps V^k that the interactions read."""
    @tiny_models.quick_jit
    def run(variables):
        return model.network.apply(
            variables, *INPUTS, train=False, perturb=perturb, method="full"
        ).visual

    return run(weights)


@pytest.fixture(scope="module")
def plain(weights):
    return maps(tiny_qvim.build(**BASELINE), weights, None)


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        ("sfa", [False] * 4 + [True]), ("mixstyle", [False] + [True] * 4),
        ("adain", [False] + [True] * 4), ("dsu", [True] * 5), ("isw", [True] * 5),
    ],
)
def test_later_stages_see_the_change(method, changed, weights, plain):
    perturb = drawn(method) if method in PERTURBING else None
    now = maps(build(method), weights, perturb)
    assert [differ(a, b) for a, b in zip(now, plain, strict=True)] == changed


def test_only_the_interactions_map_changes_where_the_place_is_the_interaction(weights, plain):
    compared = ComparedConfig("in", scales=(2,))
    now = maps(tiny_qvim.build(**BASELINE, compared=compared), weights, None)
    assert [differ(a, b) for a, b in zip(now, plain, strict=True)] == [
        False, True, False, False, False
    ]
    np.testing.assert_allclose(now[1], instance_norm(plain[1]), rtol=1e-4, atol=1e-5)


def test_every_place_draws_for_itself():
    for method in ("dsu", *STYLES):
        perturb = drawn(method, mixstyle_alpha=5.0)
        outs = [perturb.backbone(place, V) for place in ("layer1", "layer2")]
        assert (outs[0] != outs[1]).any(), method
        np.testing.assert_array_equal(perturb.backbone("layer1", V), outs[0])
        np.testing.assert_array_equal(perturb.visual(1, V[:, 0]), V[:, 0])
    np.testing.assert_array_equal(drawn("dsu", prob=0.0).backbone("conv1", V), V)
    uses = [[bool((drawn("dsu", key, prob=0.5).backbone(place, V) != V).any())
             for place in ("conv1", "layer4")] for key in range(4)]
    assert [True, False] in uses or [False, True] in uses


def test_a_style_is_that_of_a_clip():
    """Statistics are over time and space, and all frames of a clip take one other clip's style."""
    out = np.asarray(drawn("adain").backbone("layer1", V))
    mean = out.mean((1, 2, 3))
    other = [int(np.argmin(np.abs(V.mean((1, 2, 3)) - m).sum(-1))) for m in mean]
    assert sorted(other) == [0, 1, 2, 3]
    np.testing.assert_allclose(out, styles.adain(V, jnp.asarray(other)), rtol=1e-5, atol=1e-5)
    normalized = instance_norm(V)
    np.testing.assert_allclose(normalized.mean((1, 2, 3)), 0, atol=1e-5)
    assert np.abs(normalized.mean((2, 3))).max() > 0.1  # a frame by itself is not normalized


def test_words_are_changed_where_the_interaction_reads_them():
    words = jax.random.normal(jax.random.key(1), (4, 3, 2))
    present = jnp.ones((4, 3), bool)
    both = drawn("dsu", modality="both")
    assert (both.words(1, words, present) != words).any()
    np.testing.assert_array_equal(both.visual(1, V[:, 0]), V[:, 0])
    np.testing.assert_array_equal(drawn("dsu").words(1, words, present), words)


def test_inference_is_the_baselines_except_for_the_normalization():
    variables = jax.eval_shape(tiny_qvim.build(**BASELINE).init, jax.random.key(0), BATCH)

    def trace(**changes):
        model = tiny_qvim.build(**BASELINE, compared=ComparedConfig(**changes))
        return str(jax.make_jaxpr(model.predict)(variables, BATCH))

    plain = trace()
    assert trace(place="backbone") == plain  # no method
    for method in PERTURBING:
        assert trace(method=method, place="backbone") == plain
    normalized = trace(method="in", place="backbone")
    assert normalized == trace(method="irw", place="backbone")
    assert normalized not in (plain, trace(method="in"))


def test_the_normalized_features_are_those_of_the_network(weights):
    """Each place normalizes what the layers after the earlier places compute."""
    model = build("isw")

    @tiny_models.quick_jit
    def run(variables):
        full = model.network.apply(variables, *INPUTS, train=False, method="full")
        alone = model.network.apply(variables, *INPUTS[:2], method="normalized_features")
        return full.normalized, alone, full.visual

    normalized, alone, visual = run(weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
                 normalized, alone)
    assert {k: x.shape for k, x in normalized.items()} == {
        "norm1": (4, 3, 16, 16, 4), "layer1_sum": (4, 3, 8, 8, 4), "layer2_sum": (4, 3, 4, 4, 8),
    }
    for place, k in (("norm1", 0), ("layer1_sum", 1), ("layer2_sum", 2)):
        x = np.asarray(normalized[place])
        np.testing.assert_allclose(x.mean((1, 2, 3)), 0, atol=1e-4)
        np.testing.assert_allclose(x.var((1, 2, 3)), 1, rtol=0.05)
        # The ReLU follows, and then the temporal mean.
        np.testing.assert_allclose(np.maximum(x, 0).mean(1), visual[k], rtol=1e-4, atol=1e-5)


def test_isw_measures_and_whitens_the_maps_at_its_places(weights):
    model = build("isw", isw_start=0.0, isw_images=4, isw_trials=1)
    variables = jax.eval_shape(model.init, jax.random.key(0), BATCH)
    places = {"norm1": 4, "layer1_sum": 4, "layer2_sum": 8}
    shapes = jax.tree.map(jnp.shape, variables["whitening"]["masks"])
    assert shapes == {place: (count, count) for place, count in places.items()}

    def normalized(frames):
        return model.network.apply(weights, frames, BATCH["target"], method="normalized_features")

    @tiny_models.quick_jit
    def measure(key):
        state = robustnet.init(normalized(BATCH["frames"]))
        state = robustnet.measure(model.config, state, BATCH, normalized, key, jnp.int32(0))
        output = Output(*[None] * len(Output._fields))._replace(
            normalized=normalized(BATCH["frames"])
        )
        return state, output, robustnet.loss(model.config, state, BATCH, output)

    state, output, (loss, counted) = measure(jax.random.key(5))
    assert state["trials"] == 1 and counted.all()
    wanted = 0
    for place, mask in state["masks"].items():
        assert 0 < mask.sum() < mask.size / 2
        x = np.asarray(output.normalized[place]).reshape(4, -1, places[place])
        covariance = np.einsum("bnc,bnd->bcd", x, x) / (x.shape[1] - 1)
        wanted += (np.abs(covariance) * mask).sum((1, 2)) / mask.sum() / 3
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)


def test_isw_works_in_training():
    model = build("isw")
    variables = jax.eval_shape(model.init, jax.random.key(0), BATCH)
    _, updates, means = jax.eval_shape(
        model.loss, variables, BATCH, jax.random.key(0), jnp.int32(0)
    )
    assert "whitening" in means
    shapes = (jax.tree.map(jnp.shape, tree["whitening"]) for tree in (updates, variables))
    assert next(shapes) == next(shapes)


def test_a_stream_predicts_as_predict_does(weights):
    """RobustNet's normalization of a clip is the same in a stream."""
    model, batch = build("in"), tiny_qvim.make_batch(size=1)
    video = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    step = tiny_models.quick_jit(model.step)
    state = tiny_models.quick_jit(model.start)(weights, video[0], tiny_models.prompt(batch))
    predictions = {}
    for frame in [*video[1:], video[-1], video[-1]]:
        state, prediction = step(weights, state, frame)
        predictions[int(prediction.frame)] = prediction.logits
    clip = video[tiny_models.clip_numbers(model.window, 2, 5)]
    wanted = tiny_models.quick_jit(model.predict)(weights, {**batch, "frames": clip[None]}).logits
    np.testing.assert_allclose(predictions[2], wanted[0], rtol=1e-3, atol=1e-4)


def test_a_method_in_the_backbone_acts_on_visual_features():
    with pytest.raises(ValueError, match="place is 'backbone', where only visual features are"):
        ComparedConfig("dsu", place="backbone", modality="text")
