import jax.numpy as jnp
import numpy as np

from vseg_jax.tasks.rvos import batch_shapes, foreground, overlap, target_frame_mask


def batch():
    masks = np.zeros((3, 2, 2, 2), np.uint8)
    masks[0, 1] = [[2, 1], [255, 0]]
    masks[1, 0] = [[2, 2], [0, 0]]
    masks[2, 1] = [[2, 2], [2, 2]]
    return {
        "masks": masks,
        "masks_valid": np.array([[False, True], [False, True], [True, True]]),
        "target": np.array([1, 0, 1], np.int32),
        "object_id": np.array([2, 2, 2], np.int32),
        "valid": np.array([True, True, False]),
    }


def test_mask_is_the_object_referred_to_in_the_target_frame():
    mask, weight = target_frame_mask(batch())
    np.testing.assert_array_equal(mask[0], [[1, 0], [0, 0]])
    np.testing.assert_array_equal(weight[0], [[1, 1], [0, 1]])  # void never counts


def test_unannotated_frames_and_padding_samples_have_weight_0():
    _, weight = target_frame_mask(batch())
    np.testing.assert_array_equal(weight[1:], 0)


def test_foreground_is_relative_to_the_peak():
    probability = jnp.asarray([[[0.1, 0.051], [0.049, 0.0001]]])
    logits = jnp.log(probability / (1 - probability))
    np.testing.assert_array_equal(foreground(logits), [[[True, True], [False, False]]])


def test_overlap_by_hand():
    logits = jnp.asarray([[[5.0, 5.0], [-5.0, -5.0]]] * 3)
    mask = jnp.asarray([[[1.0, 0.0], [1.0, 0.0]]] * 3)
    weight = jnp.stack([jnp.ones((2, 2)), jnp.asarray([[1.0, 0], [1, 1]]), jnp.zeros((2, 2))])
    iou, counted = overlap(logits, mask, weight)
    np.testing.assert_allclose(iou, [1 / 3, 1 / 2, 0])
    np.testing.assert_array_equal(counted, [1, 1, 0])


def test_flow_is_an_entry_only_on_request():
    plain, flow = (batch_shapes(2, 3, 8, 12, 5, flow=flow) for flow in (False, True))
    assert set(flow) - set(plain) == {"flow"}
    assert (flow["flow"].shape, flow["flow"].dtype) == ((2, 3, 8, 12, 3), np.uint8)
