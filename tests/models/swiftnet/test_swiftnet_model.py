import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_swiftnet import build, make_batch, quick_jit

from vseg_jax.tasks.vos import index


def largest(tree):
    """Returns {path: largest absolute value}."""
    return {jax.tree_util.keystr(path, simple=True, separator="/"): float(jnp.abs(x).max())
            for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def test_loss_trains_everything_but_batch_norm(loss_and_gradient, variables):
    (loss, means), gradient = loss_and_gradient(variables, make_batch())
    assert float(loss) == pytest.approx(float(means["loss"][0] / means["loss"][1]))
    assert means["loss"][1] == 2 and means["iou"][1] == 8
    zero = {name for name, size in largest(gradient).items() if size == 0}
    assert all("norm" in name for name in zero)
    assert {name for name in largest(gradient) if "norm" in name} == zero


def test_void_padding_and_unannotated_frames_weigh_nothing(loss_and_gradient, variables):
    batch = make_batch()
    batch["masks"][:, 1:, :6] = 255
    batch["masks_valid"][0, 2] = False
    batch["valid"][1] = False
    (loss, means), gradient = loss_and_gradient(variables, batch)
    changed = {**batch, "masks": batch["masks"].copy()}
    changed["masks"][0, 2, 10:] = 1    # not annotated
    changed["masks"][1, 1:] = 2        # not valid
    (loss_2, means_2), gradient_2 = loss_and_gradient(variables, changed)
    assert loss == loss_2 and means["loss"][1] == 1 and means["iou"][1] == 2
    jax.tree.map(np.testing.assert_array_equal, (means, gradient), (means_2, gradient_2))
    changed["masks"][0, 1, 6:9] = 2    # but these do count
    assert loss_and_gradient(variables, changed)[0][0] != loss
    nothing = {**batch, "valid": np.zeros(2, bool)}
    (loss, means), gradient = loss_and_gradient(variables, nothing)
    assert loss == 0 and means["loss"] == (0, 0) and not any(largest(gradient).values())


def test_gradients_through_predictions_are_a_switch(loss_and_gradient, variables):
    """Only the second frame's prediction enters the memory, so the last frame's loss changes."""
    model, batch = build(cut_gradient=False), make_batch()
    # He's variance, so that the mask of a frame matters to the next one.
    strong = {**variables, "params": jax.tree_util.tree_map_with_path(
        lambda path, x: x * 6**0.5 if x.ndim == 4 and path[0].key != "encoder" else x,
        variables["params"])}

    def through(params, batch):
        kept = {**variables, "params": params}
        return model.loss(kept, batch, jax.random.key(1), jnp.int32(0))[0]

    through = quick_jit(jax.value_and_grad(through))

    def difference():
        (loss, _), cut = loss_and_gradient(strong, batch)
        value, flowing = through(strong["params"], batch)
        assert value == pytest.approx(float(loss), rel=1e-4)
        apart = jax.tree.map(jnp.subtract, cut, flowing)
        return float(optax.tree.norm(apart) / optax.tree.norm(cut))

    assert difference() > 1e-3
    batch["masks_valid"][:, 2] = False
    assert difference() < 1e-4


def test_an_object_that_was_not_in_the_first_frame_is_background(loss_and_gradient, variables):
    batch = make_batch()
    batch["masks"][:, 0][batch["masks"][:, 0] == 2] = 0
    batch["objects"][:, 1] = False
    (loss, means), _ = loss_and_gradient(variables, batch)
    without = {**batch, "masks": np.where(batch["masks"] == 2, 0, batch["masks"]).astype(np.uint8)}
    (loss_2, means_2), _ = loss_and_gradient(variables, without)
    assert loss == loss_2 and means["iou"] == means_2["iou"] and means["iou"][1] == 4


@pytest.mark.slow
def test_stm_has_a_loss_and_streams():
    model, batch = build(network="stm", share=None), make_batch(1)
    variables = quick_jit(model.init)(jax.random.key(0), batch)
    loss, updates, _ = quick_jit(model.loss)(variables, batch, jax.random.key(1), jnp.int32(0))
    assert np.isfinite(loss) and updates == {}
    prediction = quick_jit(model.predict)(variables, batch)
    assert prediction.probability.shape == (1, 2, 40, 44) and prediction.frame == 2
    state = jax.eval_shape(
        model.start, variables, batch["frames"][0, 0], {"mask": batch["masks"][0, 0]})
    assert state.memory.keys.shape[1] == 9 * (2 + 4 + 2)


def test_it_learns_a_clip():
    model, batch = build(key_channels=8), make_batch(1)
    variables = quick_jit(model.init)(jax.random.key(0), batch)
    rest = {"batch_stats": variables["batch_stats"]}
    optimizer = optax.adam(3e-3)

    @quick_jit
    def train(params, state, batch, key):
        def loss(params):
            value, _, means = model.loss({"params": params, **rest}, batch, key, jnp.int32(0))
            return value, means["iou"][0] / means["iou"][1]

        (value, iou), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value, iou

    params, state = variables["params"], optimizer.init(variables["params"])
    history = []
    for _ in range(60):
        params, state, *numbers = train(params, state, batch, jax.random.key(0))
        history.append([float(x) for x in numbers])
    (first_loss, first_iou), (last_loss, last_iou) = history[0], history[-1]
    assert last_loss < 0.3 * first_loss
    assert last_iou > 0.65 > first_iou
    prediction = quick_jit(model.predict)({"params": params, **rest}, batch)
    assert prediction.probability.shape == (1, 2, 40, 44) and prediction.frame == 2
    found = index(prediction.probability)[0]
    assert (found == batch["masks"][0, -1]).mean() > 0.9
    assert ((prediction.scores > 0.5) & (prediction.scores <= 1)).all()


def test_no_weights_named_changes_nothing(model, variables):
    assert model.pretrained(variables) is variables
