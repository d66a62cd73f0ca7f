import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import quick_jit
from tiny_qvim import build, make_batch

from vseg_jax.models.qvim import analysis
from vseg_jax.models.qvim.network import Output


def output(pooling):
    return Output(logits=None, responses=(), pooled=(), pooling=pooling, attention=(), visual=(),
                  query=None, words=(), normalized={})


def test_pointing_by_hand():
    batch = make_batch(size=3, side=8)
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[:, :4, :4] = 1              # a quarter: cell (0, 0) of a map of 2x2
    masks[1, 4:] = 255                # of which half does not count
    masks[2] = 0                      # no object
    batch["masks"] = np.repeat(masks[:, None], 3, axis=1)
    weights = jnp.asarray([
        [[0.5, 0.3], [0.2, 0.0]],
        [[0.1, 0.3], [0.6, 0.0]],
        [[0.25, 0.25], [0.25, 0.25]],
    ])
    (found,) = analysis.pointing(output((weights,)), jax.tree.map(jnp.asarray, batch))
    np.testing.assert_allclose(found.weight[:2], [0.5, 0.1 / 0.4], rtol=1e-6)
    np.testing.assert_allclose(found.area[:2], [0.25, 0.5], rtol=1e-6)
    assert found.hit.tolist()[:2] == [True, False]
    assert found.counted.tolist() == [True, True, False]


def test_infer_predicts_as_predict_does_and_qfa_mixes_its_features():
    model = build()
    batch = make_batch(size=2)
    variables = jax.jit(model.init)(jax.random.key(0), batch)

    @quick_jit
    def see(variables, batch, beta):
        return (model.predict(variables, batch), model.heat_map(variables, batch),
                *analysis.infer(model, variables, batch),
                analysis.augment(model, variables, batch, 2, beta))

    beta = float(np.median(see(variables, batch, 0.0)[-1].weights))
    prediction, heat, seen, features, mixed = see(variables, batch, beta)
    np.testing.assert_allclose(prediction.logits[:, 0], seen.logits, rtol=1e-4, atol=1e-5)
    first = np.asarray(seen.pooling[0])
    np.testing.assert_allclose(heat, first / first.max((1, 2), keepdims=True), rtol=1e-4)
    assert sorted(features) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(mixed.features, features[2], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(mixed.other, mixed.features[::-1])
    np.testing.assert_allclose(mixed.weights.mean((1, 2)), 1, rtol=1e-5)
    kept = np.asarray(mixed.retained)
    assert kept.any() and not kept.all()
    np.testing.assert_array_equal(mixed.augmented[kept], mixed.features[kept])
    # The other video's features are faded, never strengthened.
    assert (np.abs(mixed.augmented[~kept]) <= np.abs(mixed.other[~kept])).all()


def test_qfa_needs_another_video():
    model = build()
    batch = jax.tree.map(jnp.asarray, make_batch(size=1))
    with pytest.raises(ValueError, match="the batch has one"):
        analysis.augment(model, {}, batch, 1, 0.5)


def test_am_adain_gives_attention_the_statistics_of_the_next_sample():
    model = build()
    batch = make_batch(size=2)
    words = np.zeros_like(batch["tokens_valid"])
    words[0, :3] = words[1, :2] = True
    batch["tokens_valid"] = words
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    before, after = quick_jit(lambda v, b: analysis.restyle(model, v, b, 1, 1.0))(variables, batch)
    assert before.ndim == 4 and before.shape == after.shape
    moments = [(x.mean((1, 2)), x.std((1, 2))) for x in map(np.asarray, (before, after))]
    for old, new in zip(*moments, strict=True):
        np.testing.assert_allclose(new[:, :2], old[::-1, :2], rtol=1e-2, atol=1e-4)
        np.testing.assert_array_equal(new[0, 2] == old[1, 2], False)   # only one has a third word
    with pytest.raises(ValueError, match="two samples"):
        analysis.restyle(model, {}, jax.tree.map(jnp.asarray, make_batch(size=1)), 1, 0.5)


@pytest.mark.parametrize("background, named, said", [
    (0.85, 0.06, "85 % of the background and 6 % of the named object with features of other "
     "videos."),
    (0.21, 0.42, "videos: the pooling weights do not point at the object."),
    (0.03, 0.04, "videos: it changes little."),
])
def test_what_qfa_did_in_words(background, named, said):
    (remark,) = build().remarks({"qfa_background": background, "qfa_object": named, "loss": 1.0})
    assert remark.startswith("At the end of training, QFA replaces ") and remark.endswith(said)
    assert build().remarks({"loss": 1.0}) == [], "without QFA there is nothing to say"
