import jax
import numpy as np
import optax
import pytest
from tiny_cvls import build, make_batch
from tiny_models import quick_jit

from vseg_jax.models.base import Model
from vseg_jax.models.cvls.objective import weights


def test_it_is_a_model(model):
    assert isinstance(model, Model)
    assert (model.task, model.delay, model.vocabulary) == ("rvos", 0, 20)


def test_loss_returns_the_other_collection_and_its_terms(loss_and_gradient, variables):
    (loss, (updates, means)), gradient = loss_and_gradient(variables, make_batch())
    rest = {name: tree for name, tree in variables.items() if name != "params"}
    assert jax.tree.structure(updates) == jax.tree.structure(rest)
    mean = {name: float(total / count) for name, (total, count) in means.items()}
    assert mean["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert mean["loss"] == pytest.approx(0.2 * mean["segmentation"] + 0.8 * mean["contrast"])
    assert means["segmentation"][1] == 4 and means["contrast"][1] == means["iou"][1] == 2
    still = [jax.tree_util.keystr(p) for p, x in jax.tree_util.tree_leaves_with_path(gradient)
             if not np.abs(x).max() > 0]
    assert still == []  # every parameter is trained


def test_weights_of_equation_4():
    assert weights(build().config) == pytest.approx((0.2, 0.8))
    assert weights(build(ccl=False).config) == (1, 0)


def test_padding_samples_do_not_count(loss_and_gradient, variables):
    batch = make_batch()
    batch["valid"] = np.array([True, False])
    batch["masks_valid"] = np.array([[False, True], [True, True]])
    (loss, (_, means)), gradient = loss_and_gradient(variables, batch)
    terms = [0.2 * means["segmentation"][0], 0.8 * means["contrast"][0]]   # one frame of one clip
    assert means["segmentation"][1] == 1 and float(loss) == pytest.approx(float(sum(terms)))
    other = dict(batch)
    for name, value in (("masks", 1), ("object_id", 3), ("target", 0)):
        other[name] = batch[name].copy()
        other[name][1] = value
    (loss_2, (_, means_2)), gradient_2 = loss_and_gradient(variables, other)
    assert loss == loss_2 and means["contrast"][1] == 1
    jax.tree.map(np.testing.assert_array_equal, (means, gradient), (means_2, gradient_2))


def test_void_pixels_and_unannotated_frames_do_not_matter(loss_and_gradient, variables):
    batch = make_batch()
    batch["masks"] = batch["masks"].copy()
    batch["masks"][:, :, :8] = 255
    batch["masks_valid"] = np.array([[False, True]] * 2)
    value = loss_and_gradient(variables, batch)[0][0]
    changed = {**batch, "masks": batch["masks"].copy()}
    changed["masks"][:, 0] = 2
    (again, (_, means)), _ = loss_and_gradient(variables, changed)
    assert again == value and means["segmentation"][1] == 2
    changed["masks_valid"] = np.ones((2, 2), bool)
    assert loss_and_gradient(variables, changed)[0][0] != value
    unannotated = {**batch, "masks_valid": np.zeros((2, 2), bool)}
    (loss, (_, means)), gradient = loss_and_gradient(variables, unannotated)
    assert loss == 0 and means["segmentation"][1] == means["contrast"][1] == 0
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0), gradient)


def test_inference_traces_nothing_of_the_training(model, variables):
    bare = build(ccl=False, lambda_ccl=0.1, rhic=False, pos_weight=2.0)
    kept = {k: v for k, v in variables["params"].items() if k != "contrast"}
    kept = {**variables, "params": kept}
    batch = make_batch()
    both = [str(jax.make_jaxpr(lambda b, m=m: m.predict(kept, b))(batch)) for m in (model, bare)]
    assert both[0] == both[1]


def test_prediction_is_of_the_target_frame(predict, variables):
    batch = make_batch()
    batch["target"] = np.array([0, 1], np.int32)
    out = predict(variables, batch)
    assert out.logits.shape == (2, 1, 32, 32) and out.scores.shape == (2, 1)
    np.testing.assert_array_equal(out.frame, [0, 1])
    assert ((out.scores > 0) & (out.scores < 1)).all()
    other = {**batch, "frames": batch["frames"].copy()}
    other["frames"][[0, 1], [1, 0]] = 7  # frames that are not predicted
    np.testing.assert_array_equal(predict(variables, other).logits, out.logits)


def test_padding_tokens_do_not_matter_and_words_do(predict, variables):
    batch = make_batch()
    assert not batch["tokens_valid"].all()
    logits = predict(variables, batch).logits
    noisy = {**batch, "tokens": np.where(batch["tokens_valid"], batch["tokens"], 9)}
    np.testing.assert_array_equal(predict(variables, noisy).logits, logits)
    other = {**batch, "tokens": np.where(batch["tokens_valid"], batch["tokens"] % 17 + 2, 0)}
    assert np.abs(predict(variables, other).logits - logits).max() > 1e-4


def test_init_reads_only_shapes(init, variables):
    again = init(jax.random.key(0), make_batch(seed=1))
    jax.tree.map(np.testing.assert_array_equal, variables, again)


def two_expressions():
    """One clip with a red and a blue box in noise; the expression names one of them."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (1, 2, 32, 32, 3), np.uint8)
    masks = np.zeros((1, 2, 32, 32), np.uint8)
    masks[:, 0, 4:16, 4:16], masks[:, 0, 12:28, 18:28] = 1, 2
    masks[:, 1, 14:26, 4:16], masks[:, 1, 2:18, 18:28] = 1, 2
    frames[masks == 1], frames[masks == 2] = (220, 30, 30), (30, 30, 220)
    batch = {k: v[:1].repeat(2, axis=0) for k, v in make_batch().items()}
    words = np.int32([[2, 3, 0, 0, 0], [4, 3, 0, 0, 0]])
    return batch | {
        "frames": frames.repeat(2, axis=0), "masks": masks.repeat(2, axis=0), "tokens": words,
        "tokens_valid": words > 0, "object_id": np.int32([1, 2]),
    }


def test_it_learns_a_synthetic_clip(loss_and_gradient, variables):
    batch = two_expressions()
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 300))
    state = optimizer.init(variables["params"])

    @quick_jit
    def update(params, gradient, state):
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, change), state

    history = []
    for _ in range(300):
        (_, (updates, means)), gradient = loss_and_gradient(variables, batch)
        params, state = update(variables["params"], gradient, state)
        variables = {"params": params, **updates}
        history.append({name: float(total / count) for name, (total, count) in means.items()})
    end = {name: np.mean([h[name] for h in history[-20:]]) for name in history[0]}
    assert end["contrast"] < 0.2 * history[0]["contrast"]
    assert end["iou"] > 0.8  # for both expressions: it distinguishes the boxes
