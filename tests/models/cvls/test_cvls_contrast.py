import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_cvls import SMALL
from tiny_models import quick_jit

from vseg_jax.models.cvls import contrast
from vseg_jax.models.cvls.config import CvlsConfig
from vseg_jax.models.cvls.network import Output

CONFIG = CvlsConfig(**{**SMALL, "channels": 2})
# Two frames at the size of F; the referent 1 is in both, 2 in the first only, 3 in neither.
MASKS = np.uint8([[[[1, 1, 0, 0], [1, 1, 0, 0], [2, 2, 2, 0], [0, 0, 0, 0]],
                   [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]]])


def batch_of(masks=MASKS, valid=True, annotated=(True, True)):
    return {
        "masks": jnp.asarray(masks), "masks_valid": jnp.asarray([annotated]),
        "object_id": jnp.asarray([1]), "valid": jnp.asarray([valid]),
    }


def output_of(features=None, coarse=None, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    if features is None:
        features = jax.random.normal(keys[0], (1, 2, 4, 4, 2))
    if coarse is None:
        coarse = jax.random.normal(keys[1], (1, 2, 4, 4))
    return Output(coarse, coarse, features, jax.random.normal(keys[2], (1, 2)))


LOSS = quick_jit(contrast.loss, static_argnums=0)
HEADS = contrast.init(CONFIG, jax.random.key(3))


def unit(name, x):
    """The head in numpy."""
    head = jax.tree.map(np.asarray, HEADS[name])
    x = np.maximum(x @ head["hidden"]["kernel"] + head["hidden"]["bias"], 0)
    x = x @ head["out"]["kernel"] + head["out"]["bias"]
    return x / np.linalg.norm(x)


def test_loss_of_a_clip_by_hand():
    """Two positives (one a frame), three negatives: object 2 once and two backgrounds."""
    output = output_of()
    loss, counted = LOSS(
        dataclasses.replace(CONFIG, rhic=False, tau=0.2), HEADS, batch_of(), output
    )
    features, sentence = np.asarray(output.features[0]), np.asarray(output.sentence[0])

    def similarity(frame, index):
        mean = features[frame][MASKS[0, frame] == index].mean(0)
        return np.exp(unit("visual", mean) @ unit("language", sentence) / 0.2)

    negatives = similarity(0, 0) + similarity(0, 2) + similarity(1, 0)
    positives = [similarity(0, 1), similarity(1, 1)]
    wanted = np.mean([-np.log(p / (p + negatives)) for p in positives])
    np.testing.assert_allclose(loss, [wanted], rtol=1e-5)
    np.testing.assert_array_equal(counted, [1])


def test_with_rhic_the_regions_are_their_hard_quarters():
    output = output_of()
    loss, _ = LOSS(CONFIG, HEADS, batch_of(), output)
    probability = np.asarray(jax.nn.sigmoid(output.coarse[0]))
    features, sentence = np.asarray(output.features[0]), np.asarray(output.sentence[0])

    def similarity(frame, index):
        region = MASKS[0, frame] == index
        off = np.abs((MASKS[0, frame] == 1) - probability[frame])
        keep = int(np.ceil(region.sum() / 4))
        kept = np.argsort(np.where(region, -off, np.inf), axis=None)[:keep]
        mean = features[frame].reshape(-1, 2)[kept].mean(0)
        return np.exp(unit("visual", mean) @ unit("language", sentence) / CONFIG.tau)

    negatives = similarity(0, 0) + similarity(0, 2) + similarity(1, 0)
    positives = [similarity(0, 1), similarity(1, 1)]
    wanted = np.mean([-np.log(p / (p + negatives)) for p in positives])
    np.testing.assert_allclose(loss, [wanted], rtol=1e-4)


@functools.partial(quick_jit, static_argnums=0)
def gradient(config, batch, output):
    def loss(features, coarse):
        out = output._replace(features=features, coarse=coarse)
        return contrast.loss(config, HEADS, batch, out)[0].sum()

    return jax.grad(loss, argnums=(0, 1))(output.features, output.coarse)


def test_no_gradient_reaches_pixels_that_are_not_selected():
    # The decoder is certain but for one pixel of the referent, one of object 2, two of each
    # background; 1:3 keeps just as many.
    coarse = np.where(MASKS == 1, 5.0, -5.0).astype(np.float32)
    # Backgrounds have 9 and 12 pixels, of which 3 are kept each.
    off = [(0, 0, 0), (0, 2, 1), (0, 0, 2), (0, 3, 3), (0, 3, 0),
           (1, 0, 2), (1, 0, 0), (1, 2, 2), (1, 3, 3)]
    selected = np.zeros((2, 4, 4), bool)
    for place in off:
        coarse[0][place] *= -0.1
        selected[place] = True
    by_features, by_coarse = gradient(CONFIG, batch_of(), output_of(coarse=jnp.asarray(coarse)))
    reached = np.abs(by_features[0]).max(-1) > 0
    np.testing.assert_array_equal(reached, selected)
    np.testing.assert_array_equal(by_coarse, 0)
    everywhere, _ = gradient(
        dataclasses.replace(CONFIG, rhic=False), batch_of(), output_of(coarse=jnp.asarray(coarse))
    )
    assert (np.abs(everywhere).max(-1) > 0).all()


@pytest.mark.parametrize("rhic", [False, True])
def test_void_pixels_and_frames_without_annotation_leave_no_trace(rhic):
    config = dataclasses.replace(CONFIG, rhic=rhic)
    masks = MASKS.copy()
    masks[0, 0, 3] = 255
    batch = batch_of(masks, annotated=(True, False))
    output = output_of()
    loss, _ = LOSS(config, HEADS, batch, output)
    other = output._replace(
        features=output.features.at[0, 0, 3].set(9.0).at[0, 1].set(-7.0),
        coarse=output.coarse.at[0, 0, 3].set(9.0).at[0, 1].set(-7.0),
    )
    np.testing.assert_array_equal(LOSS(config, HEADS, batch, other)[0], loss)
    by_features, _ = gradient(config, batch, output)
    np.testing.assert_array_equal(by_features[0, 0, 3], 0)
    np.testing.assert_array_equal(by_features[0, 1], 0)
    assert np.abs(by_features).max() > 0


@pytest.mark.parametrize("nothing", [
    {"valid": False}, {"annotated": (False, False)}, {"masks": np.zeros_like(MASKS)},
])
def test_a_clip_without_its_referent_does_not_count(nothing):
    output = output_of()
    loss, counted = LOSS(CONFIG, HEADS, batch_of(**nothing), output)
    np.testing.assert_array_equal((loss, counted), 0)
    for part in gradient(CONFIG, batch_of(**nothing), output):
        np.testing.assert_array_equal(part, 0)


def test_switches_of_the_contrast():
    output, batch = output_of(), batch_of()
    loss = {name: float(LOSS(dataclasses.replace(CONFIG, **change), HEADS, batch, output)[0][0])
            for name, change in {
                "default": {}, "tau": {"tau": 1.0}, "plain": {"rhic": False},
                "all": {"rhic_ratio": (1, 0)}, "ratio": {"rhic_ratio": (4, 1)},
                "wrong": {"rhic_wrong_only": True, "rhic_ratio": (4, 1)},
                "fewer": {"max_objects": 1},
                "lambda": {"lambda_ccl": 0.1, "pos_weight": 2.0},
            }.items()}
    assert loss["plain"] == pytest.approx(loss["all"], rel=1e-6)
    assert loss["lambda"] == loss["default"]  # they weigh the loss elsewhere
    assert loss["fewer"] < loss["default"]  # object 2 is not a negative then
    changed = [loss[name] for name in ("default", "tau", "plain", "ratio", "wrong")]
    assert len(set(changed)) == len(changed)


def test_an_empty_region_has_a_finite_gradient():
    def out(x):
        return contrast.Projections(CONFIG).apply({"params": HEADS}, x, x)[0].sum()

    assert np.isfinite(jax.grad(out)(jnp.zeros((1, 2)))).all()
