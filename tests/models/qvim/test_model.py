import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_qvim import build, make_batch

KEY = jax.random.key(5)
LATE, EARLY = jnp.int32(9), jnp.int32(0)


def norms(tree):
    return {jax.tree_util.keystr(p): float(jnp.abs(x).max())
            for p, x in jax.tree_util.tree_leaves_with_path(tree)
            if jnp.issubdtype(x.dtype, jnp.floating)}


def test_loss_returns_every_other_collection_and_its_terms(loss_and_gradient, variables):
    (loss, (updates, means)), _ = loss_and_gradient(variables, make_batch(), KEY, LATE)
    rest = {name: tree for name, tree in variables.items() if name != "params"}
    assert jax.tree.structure(updates) == jax.tree.structure(rest)
    jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype) or pytest.fail(), updates,
                 rest)
    assert updates["moco"]["pointer"] == 4
    np.testing.assert_array_equal(updates["moco"]["videos"][:5], [0, 1, 2, 3, -1])
    mean = {name: float(total / count) for name, (total, count) in means.items()}
    assert mean["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert mean["segmentation"] + mean["contrast"] == pytest.approx(float(loss), rel=1e-5)
    assert mean["qfa_beta"] == pytest.approx(1.0)
    assert 0 <= mean["iou"] <= 1 and means["iou"][1] == 4


def test_every_parameter_is_trained_and_no_other_array(loss_and_gradient, variables):
    _, gradient = loss_and_gradient(variables, make_batch(), KEY, LATE)
    still = [n for n, size in norms(gradient["params"]).items() if size == 0]
    # Scale 5 is one cell here, so its self-attention has nothing to choose between.
    assert still == [f"['qvim_5']['place']['{name}']['kernel']" for name in ("key", "query")]
    assert not any(norms(gradient["moco"]).values())


def test_padding_samples_do_not_count(loss_and_gradient, variables):
    batch = make_batch()
    batch["valid"] = np.array([True, True, False, True])
    (loss, (updates, means)), gradient = loss_and_gradient(variables, batch, KEY, LATE)
    other = dict(batch)
    for name, value in (("masks", 1), ("object_id", 3), ("video", 77), ("sample", 99)):
        other[name] = batch[name].copy()
        other[name][2] = value
    (loss_2, (updates_2, means_2)), gradient_2 = loss_and_gradient(variables, other, KEY, LATE)
    assert loss == loss_2
    jax.tree.map(np.testing.assert_array_equal, (updates, means), (updates_2, means_2))
    jax.tree.map(
        np.testing.assert_array_equal, gradient["params"], gradient_2["params"]
    )
    assert updates["moco"]["pointer"] == 3 and means["iou"][1] == 3


def test_void_pixels_and_unannotated_frames_do_not_matter(loss_and_gradient, variables):
    batch = make_batch()
    batch["masks"][:, 1, :8] = 255
    value = loss_and_gradient(variables, batch, KEY, LATE)[0][0]
    changed = {**batch, "masks": batch["masks"].copy()}
    changed["masks"][:, [0, 2]] = 7  # frames that are not predicted
    assert loss_and_gradient(variables, changed, KEY, LATE)[0][0] == value
    unannotated = {**batch, "masks_valid": np.zeros_like(batch["masks_valid"])}
    (_, (_, means)), _ = loss_and_gradient(variables, unannotated, KEY, LATE)
    assert means["segmentation"] == (0, 0)


def test_the_key_and_the_step_decide(loss_and_gradient, variables):
    # Initially the query points everywhere about equally and QFA keeps everything: sharpen it.
    sharp = jax.tree_util.tree_map_with_path(
        lambda path, x: 9 * x if "qvim_1" in str(path) and "position" in str(path) else x, variables
    )

    def loss(key, step):
        return float(loss_and_gradient(sharp, make_batch(), key, step)[0][0])

    assert loss(KEY, LATE) == loss(KEY, LATE)
    assert loss(KEY, LATE) != loss(jax.random.key(6), LATE)
    assert loss(KEY, LATE) != loss(KEY, EARLY)


def test_inference_traces_nothing_of_the_training(model, variables):
    bare = build(qfa_scales=(), am_adain_scales=(), contrast=False, gt_soft=True)
    batch = make_batch()

    def trace(m):
        kept = {k: v for k, v in variables.items() if k != "moco"}
        kept["params"] = {k: v for k, v in kept["params"].items() if k != "contrast"}
        return str(jax.make_jaxpr(lambda b: m.predict(kept, b))(batch))

    assert trace(model) == trace(bare)
    assert "random_bits" not in trace(model)


def test_prediction(predict, variables):
    batch = make_batch()
    batch["target"] = np.array([0, 1, 2, 1], np.int32)
    out = predict(variables, batch)
    assert out.logits.shape == (4, 1, 32, 32) and out.scores.shape == (4, 1)
    np.testing.assert_array_equal(out.frame, batch["target"])
    assert ((out.scores > 0) & (out.scores < 1)).all()


def test_a_sample_is_predicted_the_same_in_any_batch(predict, variables):
    batch = make_batch()
    out = predict(variables, batch).logits
    order = np.array([2, 0, 3, 1])
    again = predict(variables, {k: v[order] for k, v in batch.items()}).logits
    np.testing.assert_allclose(again, out[order], rtol=1e-4, atol=1e-5)


def test_padding_tokens_do_not_matter(predict, variables):
    batch = make_batch()
    assert not batch["tokens_valid"].all()
    noisy = {**batch, "tokens": np.where(batch["tokens_valid"], batch["tokens"], 9)}
    np.testing.assert_array_equal(
        predict(variables, noisy).logits, predict(variables, batch).logits
    )


def test_the_expression_matters(predict, variables):
    batch = make_batch()
    other = {**batch, "tokens": np.where(batch["tokens_valid"], batch["tokens"] % 17 + 2, 0)}
    assert np.abs(predict(variables, other).logits - predict(variables, batch).logits).max() > 1e-4


def test_init_reads_only_shapes(init, variables):
    again = init(jax.random.key(0), make_batch(seed=1))
    jax.tree.map(np.testing.assert_array_equal, variables, again)
