import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from tiny_rcf import make_batch

from vseg_jax.models.rcf import objective
from vseg_jax.models.rcf.objective import Truth

ASSIGN = jax.jit(objective.assign)
TERMS = jax.jit(objective.terms, static_argnames="eos_coef")
TRUTH = jax.jit(objective.truth, static_argnums=1)


@pytest.mark.parametrize(("slots", "objects"), [(6, 4), (4, 6), (5, 5)])
def test_the_assignment_is_optimal(slots, objects):
    random = np.random.default_rng(slots)
    for there in (np.ones(objects, bool), random.random(objects) < 0.6, np.zeros(objects, bool)):
        pairs = random.random((slots, objects)).astype(np.float32)
        chosen = np.asarray(ASSIGN(pairs, there))
        ours = [(s, o) for s, o in enumerate(chosen) if o >= 0]
        best = linear_sum_assignment(-pairs[:, there])
        assert len({o for _, o in ours}) == len(ours) == min(slots, there.sum())
        assert all(there[o] for _, o in ours)
        assert sum(pairs[p] for p in ours) == pytest.approx(pairs[:, there][best].sum(), rel=1e-5)


def test_the_assignment_terminates_on_non_finite_numbers():
    chosen = ASSIGN(np.full((4, 3), np.nan, np.float32), np.array([True, True, False]))
    assert sorted(set(chosen.tolist()) - {-1}) == [0, 1]


def one_frame(masks, present, classes):
    """Returns the truth of one frame of one sample, with every pixel known."""
    masks = np.float32(masks)[None, None]
    return Truth(jnp.asarray(masks), jnp.ones((1, 1, *masks.shape[-2:])),
                 jnp.array(present)[None, None], jnp.int32(classes)[None], jnp.ones((1, 1)))


def test_equations_3_and_4_by_hand():
    """Two slots, two classes, one object of class 1 in half of a 2 x 2 picture."""
    truth = one_frame([[[1, 1], [0, 0]], [[0, 0], [0, 0]]], [True, False], [1, 0])
    probabilities = np.float32([[0.2, 0.3, 0.5], [0.1, 0.5, 0.4]])
    masks = np.float32([[[50, 50], [-50, -50]], [[50, -50], [50, -50]]])
    # Similarity: 5 / 5 + 0.3 of slot 0, (2 + 1) / (2 + 2 + 1) + 0.5 of slot 1.
    dice = np.float32([[[[1, 0], [0.6, 0]]]])
    pairs = objective.similarity(jnp.asarray(dice), jnp.asarray(probabilities)[None, None], truth)
    np.testing.assert_allclose(pairs[0, :, 0], [1.3, 1.1], rtol=1e-6)
    out = TERMS(np.log(probabilities)[None, None], masks[None, None], truth, eos_coef=0.1)
    assert out.dice[0, 0] == pytest.approx(0, abs=1e-6)
    assert out.classes[0, 0] == pytest.approx(-np.log(0.3) - 0.1 * np.log(0.4), rel=1e-5)
    assert (out.matched[0, 0], out.iou[0, 0], out.correct[0, 0]) == (1, 1, 0)
    # A class probability higher by 0.7 outweighs the worse mask: 0.6 + 0.9 against 1 + 0.2.
    probabilities = np.float32([[0.2, 0.2, 0.6], [0.05, 0.9, 0.05]])
    out = TERMS(np.log(probabilities)[None, None], masks[None, None], truth, eos_coef=1.0)
    assert out.dice[0, 0] == pytest.approx(0.4, rel=1e-5)
    assert out.classes[0, 0] == pytest.approx(-np.log(0.9) - np.log(0.6), rel=1e-5)
    assert out.iou[0, 0] == pytest.approx(1 / 3) and out.correct[0, 0] == 1


def gradients(truth):
    """Of random classes and masks of three slots."""
    random = np.random.default_rng(0)
    classes, masks = (jnp.float32(random.standard_normal(s)) for s in
                      ((1, 1, 3, 3), (1, 1, 3, 2, 2)))

    def total(classes, masks):
        out = objective.terms(classes, masks, truth, eos_coef=0.1)
        return (out.classes + out.dice).sum()

    return jax.jit(jax.grad(total, (0, 1)))(classes, masks)


def test_only_slots_with_an_object_have_a_mask_gradient():
    by_class, by_mask = gradients(one_frame([[[1, 1], [0, 0]]], [True], [0]))
    assert ((by_mask[0, 0] != 0).any((1, 2))).sum() == 1
    assert (by_class[0, 0] != 0).any(-1).all()


def test_a_frame_without_objects_teaches_that_no_slot_has_one():
    by_class, by_mask = gradients(one_frame([[[0, 0], [0, 0]]], [False], [0]))
    assert (by_mask == 0).all()
    empty = np.asarray(by_class)[0, 0] < 0   # what a step of training makes more probable
    assert np.isfinite(by_class).all() and (empty == [[False, False, True]] * 3).all()


def test_a_frame_without_annotation_does_not_count():
    batch = make_batch(size=2)
    batch["masks_valid"][1, -1] = False
    truth = TRUTH(batch, 1)
    np.testing.assert_array_equal(truth.counted, [[1], [0]])
    np.testing.assert_array_equal(truth.present, [[[True, True, False]], [[False] * 3]])
    random = np.random.default_rng(0)
    out = TERMS(random.standard_normal((2, 1, 4, 4)).astype(np.float32),
                random.standard_normal((2, 1, 4, 16, 16)).astype(np.float32), truth, eos_coef=0.1)
    assert all(x[1, 0] == 0 for x in out) and out.classes[0, 0] > 0 and out.matched[0, 0] == 2


def test_the_truth_is_downscaled_by_area_and_void_does_not_count():
    batch = make_batch(size=1, height=40, width=64)  # padded to 64 x 64
    batch["masks"][0, -1, :2] = 255
    batch["masks"][0, -1, 2, :4] = 1
    truth = TRUTH(batch, 1)
    assert truth.masks.shape == (1, 1, 3, 16, 16)
    np.testing.assert_array_equal(truth.weight[0, 0, 0], np.full(16, 0.5))
    np.testing.assert_array_equal(truth.weight[0, 0, 10:], np.zeros((6, 16)))
    assert truth.masks[0, 0, 0, 0, 0] == 0.5  # one of the two known rows of the cell
    # The prediction in the padding has no effect.
    random = np.random.default_rng(0)
    classes = random.standard_normal((1, 1, 4, 4)).astype(np.float32)
    masks = random.standard_normal((1, 1, 4, 16, 16)).astype(np.float32)
    other = masks.copy()
    other[:, :, :, 10:] = 99
    ours, theirs = (TERMS(classes, m, truth, eos_coef=0.1) for m in (masks, other))
    for a, b in zip(ours, theirs, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_iou_of_an_object_of_one_cell():
    truth = one_frame([[[1, 0], [0, 0]]], [True], [0])
    masks = np.float32([[[[[9, -9], [-9, -9]]]]])
    assert TERMS(np.zeros((1, 1, 1, 2), np.float32), masks, truth, eos_coef=0.1).iou[0, 0] == 1


def test_one_assignment_for_all_frames_of_a_clip():
    """The slot that is better over both frames gets the object, even if worse in one of them."""
    masks = np.zeros((1, 2, 1, 2, 2), np.float32)
    masks[:, :, 0, 0] = 1
    truth = Truth(masks, np.ones((1, 2, 2, 2), np.float32), np.ones((1, 2, 1), bool),
                  np.zeros((1, 1), np.int32), np.ones((1, 2), np.float32))
    probabilities = np.float32([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.3, 0.7]]])
    same = np.zeros((1, 2, 2, 2, 2), np.float32)
    together = TERMS(np.log(probabilities)[None], same, truth, eos_coef=0.0)
    np.testing.assert_allclose(together.classes[0], -np.log([0.9, 0.1]), rtol=1e-5)
    alone = [
        TERMS(np.log(probabilities)[None, f : f + 1], same[:, :1],
              jax.tree.map(lambda x, f=f: x if x.ndim == 2 and x.dtype == np.int32
                           else x[:, f : f + 1], truth), 0.0).classes[0, 0] for f in (0, 1)]
    np.testing.assert_allclose(alone, -np.log([0.9, 0.3]), rtol=1e-5)
    # In a frame that does not show the object, its slot has none.
    gone = truth._replace(present=np.array([[[True], [False]]]))
    out = TERMS(np.log(probabilities)[None], same, gone, eos_coef=1.0)
    assert out.classes[0, 1] == pytest.approx(-np.log(0.9) - np.log(0.7), rel=1e-5)
    assert out.matched.tolist() == [[1, 0]] and out.dice[0, 1] == 0
