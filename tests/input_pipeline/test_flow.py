import cv2
import numpy as np
import pytest

from vseg_jax.input_pipeline.flow import dis_flow, flow_to_image


def test_dis_flow_finds_a_shift():
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (80, 100, 3), np.uint8), (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    first, second = texture[8:72, 8:88], texture[10:74, 5:85]  # moves 3 right and 2 up
    inner = dis_flow(first, second)[10:-10, 10:-10]
    np.testing.assert_allclose(np.median(inner, axis=(0, 1)), [3, -2], atol=0.3)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (20, 9)])
def test_dis_flow_of_tiny_frames(size):
    frame = np.full((*size, 3), 50, np.uint8)
    flow = dis_flow(frame, frame)
    assert flow.shape == (*size, 2) and flow.dtype == np.float32
    np.testing.assert_array_equal(flow, 0)


def test_dis_flow_of_unequal_frames():
    with pytest.raises(ValueError, match="one size"):
        dis_flow(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 21, 3), np.uint8))


def test_flow_image_has_the_colors_of_raft():
    # From princeton-vl/RAFT core/utils/flow_viz.py, commit 2888e15a.
    flow = np.array([[[1, 0], [0, 1], [-1, 0]], [[0, -1], [0.5, 0.5], [0, 0]]], np.float32)
    expected = [[[255, 0, 0], [255, 229, 0], [0, 209, 255]],
                [[88, 0, 255], [255, 155, 74], [255, 255, 255]]]
    np.testing.assert_array_equal(flow_to_image(flow), expected)
    np.testing.assert_array_equal(flow_to_image(flow * 7)[0], expected[0])


def test_flow_image_without_motion_or_value_is_white():
    assert (flow_to_image(np.zeros((2, 2, 2))) == 255).all()
    assert (flow_to_image(np.full((1, 1, 2), np.nan)) == 255).all()
