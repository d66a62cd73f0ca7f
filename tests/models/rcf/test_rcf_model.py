import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_rcf import WITH_AUDIO, build, make_batch, quick_jit

from vseg_jax.models.rcf import model as rcf_model

BATCH = make_batch()


def finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def test_loss_trains_every_parameter(variables, loss_and_gradient):
    (value, (updates, means)), gradient = loss_and_gradient(variables, BATCH)
    assert np.isfinite(value) and finite(gradient)
    assert means["loss"][0] / means["loss"][1] == pytest.approx(float(value), rel=1e-5)
    assert means["iou"][1] == 4 and 0 <= means["correct"][0] <= 4
    assert jax.tree.structure(updates) == jax.tree.structure(
        {"batch_stats": variables["batch_stats"]})
    zero = [jax.tree_util.keystr(path) for path, g in
             jax.tree_util.tree_leaves_with_path(gradient) if not (g != 0).any()]
    # A constant added to all keys of an attention has no effect, and the decoder's first values are
    # all 0.
    first = ("['layer0']['self_attention']", "['layer0']['norm1']['scale']")
    assert all("['key']['bias']" in n or any(f in n for f in first) for n in zero), zero


def test_invalid_samples_do_not_count(variables, loss_and_gradient):
    def of(valid, annotated):
        batch = {**BATCH, "valid": np.array(valid), "masks_valid": BATCH["masks_valid"].copy()}
        batch["masks_valid"][:, -1] = annotated
        (value, (_, means)), _ = loss_and_gradient(variables, batch)
        return float(value), means

    one, means = of([True, False], [True, True])
    other, _ = of([True, True], [True, False])
    assert one == pytest.approx(other, rel=1e-5) and means["loss"][1] == 1
    nothing, _ = of([False, False], [True, True])
    assert nothing == 0


def test_masks_of_references_are_used_for_order_supervision_only(variables, loss_and_gradient):
    batch = {**BATCH, "masks": BATCH["masks"].copy(), "visible": BATCH["visible"].copy()}
    batch["masks"][:, 0], batch["visible"][:, 0] = 0, False
    assert loss_and_gradient(variables, batch)[0][0] == pytest.approx(
        float(loss_and_gradient(variables, BATCH)[0][0]), rel=1e-6)
    model = build(order_supervision=True, decoder_layers=1)
    variables = {"params": {**variables["params"], "decoder": {
        k: v for k, v in variables["params"]["decoder"].items() if k != "layer1"}},
        "batch_stats": variables["batch_stats"]}
    loss = quick_jit(lambda b: model.loss(variables, b, jax.random.key(0), jnp.int32(0))[::2])
    (value, means), (changed, _) = loss(BATCH), loss(batch)
    assert means["loss"][1] == 4 and means["iou"][1] == 8 and value != changed


def test_predict_returns_slots_of_the_target_frame(variables, predict):
    prediction = predict(variables, BATCH)
    assert prediction.logits.shape == (2, 4, 64, 64) and prediction.probabilities.shape == (2, 4, 4)
    np.testing.assert_allclose(prediction.probabilities.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(prediction.scores, prediction.probabilities[..., :3].max(-1))
    np.testing.assert_array_equal(prediction.frame, [1, 1])
    slots = np.broadcast_to(np.arange(4), (2, 4))
    np.testing.assert_array_equal(
        prediction.identities, np.where(prediction.scores >= 0.4, slots, -1))
    # References have an effect, and samples are independent.
    frames = BATCH["frames"].copy()
    frames[1, 0] = 255 - frames[1, 0]
    other = predict(variables, {**BATCH, "frames": frames})
    np.testing.assert_allclose(prediction.logits[0], other.logits[0], atol=1e-5)
    assert (prediction.logits[1] != other.logits[1]).any()


def test_it_learns_a_clip(variables, loss_and_gradient):
    optimizer = optax.adam(0.01)
    variables = dict(variables)
    state = optimizer.init(variables["params"])
    update = jax.jit(optimizer.update)
    first = None
    for _ in range(80):
        (value, (updates, means)), gradient = loss_and_gradient(variables, BATCH)
        first = first or float(value)
        changes, state = update(gradient, state)
        variables = {"params": optax.apply_updates(variables["params"], changes), **updates}
    assert value < 0.5 * first
    assert means["iou"][0] / 4 > 0.5 and means["correct"][0] == 4


@pytest.mark.parametrize("frozen", [True, False])
def test_the_audio_encoder_is_frozen_unless_configured_otherwise(frozen):
    network = build(**{**WITH_AUDIO, "vggish_frozen": frozen}).network
    patch = jax.random.normal(jax.random.key(0), (1, 96, 64))
    shapes = jax.eval_shape(
        lambda k: network.init(k, patch, method="encode_audio"), jax.random.key(1))
    variables = jax.tree.map(lambda x: jnp.full(x.shape, 0.1), shapes)
    gradient = quick_jit(jax.grad(
        lambda v: jnp.square(network.apply(v, patch, method="encode_audio")).sum()))(variables)
    learns = any((g != 0).any() for g in jax.tree.leaves(gradient))
    assert learns != frozen


def test_bad_batches_are_refused(model, variables):
    with pytest.raises(ValueError, match="clips of 2 frames, got 3"):
        jax.eval_shape(model.predict, variables, make_batch(length=3))
    with_audio = build(**WITH_AUDIO)
    shapes = jax.eval_shape(with_audio.init, jax.random.key(0), BATCH)
    with pytest.raises(ValueError, match="no 'audio'"):
        jax.eval_shape(with_audio.predict, shapes, BATCH)


def test_pretrained_reads_both_networks(tmp_path):
    resnet, vggish = tmp_path / "resnet.npz", tmp_path / "vggish.npz"
    for path in (resnet, vggish):
        np.savez(path, nothing=np.zeros(1))
    variables = jax.eval_shape(build(**WITH_AUDIO).init, jax.random.key(0), BATCH)
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables)
    for changes in ({"backbone_weights": str(resnet)}, {"vggish_weights": str(vggish)}):
        with pytest.raises(ValueError, match="nothing"):
            build(**{**WITH_AUDIO, **changes}).pretrained(variables)
    assert build(**WITH_AUDIO).pretrained(variables) is variables


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_pretrained_reads_the_files_of_the_configured_backbone(backbone, monkeypatch):
    for name in ("resnet", "swin"):
        loader = getattr(rcf_model, name)
        monkeypatch.setattr(loader, "load", lambda path, part, name=name: {"params": (name, path)})
    model = build(backbone=backbone, backbone_weights="FILE")
    out = model.pretrained({"params": {"backbone": {}, "head": 1}, "batch_stats": {"backbone": {}}})
    assert out["params"] == {"backbone": (backbone, "FILE"), "head": 1}
