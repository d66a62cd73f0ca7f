"""The loss by hand, for given logits instead of those of the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_swiftnet import build, quick_jit

RANDOM = np.random.default_rng(0)
LOGITS = jnp.asarray(RANDOM.normal(size=(2, 2, 3, 4, 4)), jnp.float32)   # [T - 1, B, 1 + N, H, W]
MASKS = RANDOM.integers(0, 3, (2, 3, 4, 4), np.uint8)
MASKS[0, 1, 0], MASKS[1, 2, :, 1] = 255, 255
OBJECTS = np.array([[True, True], [True, False]])   # object 2 of sample 1 enters later
ANNOTATED = np.array([[True, True, True], [True, False, True]])


@pytest.mark.parametrize("valid", [(True, True), (False, True), (False, False)])
def test_cross_entropy_summed_over_frames(valid):
    model = build()
    model._propagate = lambda variables, batch, key: LOGITS
    batch = {"masks": MASKS, "masks_valid": ANNOTATED, "objects": OBJECTS,
             "valid": np.array(valid)}
    total, updates, means = quick_jit(
        lambda batch: model.loss({}, batch, jax.random.key(0), jnp.int32(0))
    )(jax.tree.map(jnp.asarray, batch))
    log_p = np.asarray(jax.nn.log_softmax(LOGITS, axis=2))
    losses = {}
    for sample in (0, 1):
        for t in (1, 2):
            mask = MASKS[sample, t]
            if not valid[sample] or not ANNOTATED[sample, t]:
                continue
            slot = np.where((mask == 2) & ~OBJECTS[sample, 1], 0, mask)
            pixels = [-log_p[t - 1, sample, slot[y, x], y, x]
                      for y, x in np.argwhere(mask != 255)]
            losses[sample] = losses.get(sample, 0) + np.mean(pixels)
    expected = sum(losses.values())
    np.testing.assert_allclose(means["loss"], (expected, len(losses)), rtol=1e-5)
    np.testing.assert_allclose(total, expected / max(len(losses), 1), rtol=1e-5)
    assert updates == {}
