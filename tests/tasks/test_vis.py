import jax.numpy as jnp
import numpy as np

from vseg_jax.tasks.slots import slot_masks
from vseg_jax.tasks.vis import batch_shapes, fired


def test_a_slot_fires_for_its_best_category_and_never_for_none():
    probabilities = jnp.asarray([[0.39, 0.2, 0.41], [0.1, 0.4, 0.5], [0.5, 0.5, 0.0]])
    np.testing.assert_array_equal(fired(probabilities, 0.4), [False, True, True])


def test_void_is_in_no_slot():
    masks = slot_masks(jnp.asarray([[[0, 1], [255, 2]]], jnp.uint8), 3)
    assert masks.shape == (1, 3, 2, 2)
    np.testing.assert_array_equal(masks[0, 0], [[0, 1], [0, 0]])
    np.testing.assert_array_equal(masks[0, 1], [[0, 0], [0, 1]])
    assert masks.sum() == 2


def test_shapes_of_a_batch_with_and_without_audio():
    shapes = batch_shapes(2, 3, 32, 48, 5, uses_audio=True)
    assert shapes["audio"].shape == (2, 3, 96, 64) and shapes["audio_valid"].shape == (2, 3)
    assert shapes["visible"].shape == (2, 3, 5) and shapes["masks"].shape == (2, 3, 32, 48)
    assert set(shapes) - set(batch_shapes(2, 3, 32, 48, 5)) == {"audio", "audio_valid"}
