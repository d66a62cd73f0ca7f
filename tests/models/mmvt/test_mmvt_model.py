import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_mmvt import build, make_batch


@pytest.fixture(scope="module")
def trained(loss_and_gradient, variables):
    return loss_and_gradient(variables, make_batch())


def test_it_is_a_model(model):
    assert model.task == "rvos" and model.flow and model.delay == 2 and model.vocabulary == 20
    assert build(motion=False).delay == 1 and not build(motion=False).flow


def test_loss_returns_the_statistics_and_its_terms(trained, variables):
    (loss, (updates, means)), _ = trained
    assert jax.tree.map(jnp.shape, updates) == {
        "batch_stats": jax.tree.map(jnp.shape, variables["batch_stats"])
    }
    mean = {name: float(total / count) for name, (total, count) in means.items()}
    terms = ("segmentation", "vision_language", "flow_language", "vision_flow")
    assert mean["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert sum(mean[name] for name in terms) == pytest.approx(float(loss), rel=1e-5)
    assert 0 <= mean["iou"] <= 1 and means["iou"][1] == 2


def test_every_parameter_is_trained_but_frozen_norms(trained):
    _, gradient = trained
    still = {jax.tree_util.keystr(path, simple=True, separator="/")
             for path, x in jax.tree_util.tree_leaves_with_path(gradient) if not np.abs(x).max()}
    assert all(name.split("/")[0] in ("vision", "flow") and "norm" in name for name in still)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_void_pixels_other_frames_and_padding_do_not_matter(loss_and_gradient, variables):
    batch = make_batch()
    batch["masks"][:, 1, :8] = 255
    batch["valid"] = np.array([True, False])
    (loss, (_, means)), gradient = loss_and_gradient(variables, batch)
    assert means["segmentation"][1] == 1 and means["vision_flow"][1] == 1
    other = {**batch, "masks": batch["masks"].copy()}
    other["masks"][:, [0, 2]] = 7   # frames that are not predicted
    other["masks"][1] = 1           # a padding sample
    (again, _), gradient_2 = loss_and_gradient(variables, other)
    assert again == loss
    jax.tree.map(np.testing.assert_array_equal, gradient_2, gradient)


def test_prediction(predict, variables):
    batch = make_batch()
    out = predict(variables, {**batch, "target": np.array([0, 2], np.int32)})
    assert out.logits.shape == (2, 1, 32, 32) and out.scores.shape == (2, 1)
    np.testing.assert_array_equal(out.frame, [0, 2])
    assert ((out.scores > 0) & (out.scores < 1)).all()
    turned = predict(variables, {**{k: v[::-1] for k, v in batch.items()},
                                 "target": np.array([2, 0], np.int32)})
    np.testing.assert_allclose(turned.logits[::-1], out.logits, rtol=1e-3, atol=1e-4)


def test_which_inputs_matter(predict, variables):
    batch = make_batch()
    plain = predict(variables, batch).logits

    def change(**entries):
        return np.abs(predict(variables, {**batch, **entries}).logits - plain).max()

    valid, tokens = batch["tokens_valid"], batch["tokens"]
    assert not valid.all()
    assert change(tokens=np.where(valid, tokens, 9)) == 0
    assert change(tokens=np.where(valid, tokens % 17 + 2, 0)) > 1e-4
    assert change(flow=255 - batch["flow"]) > 1e-4
    other = batch["frames"].copy()
    other[:, 0] = 255 - other[:, 0]
    assert change(frames=other) > 1e-5


def test_wrong_inputs_are_rejected(model, variables):
    batch = make_batch()
    del batch["flow"]
    with pytest.raises(ValueError, match="the batch has no 'flow'"):
        jax.eval_shape(model.predict, variables, batch)
    frame = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="takes frames of 6 channels, got 3"):
        jax.eval_shape(model.start, variables, frame, {})
    odd = {k: v[:, :, :24] if k in ("frames", "flow") else v for k, v in make_batch().items()}
    with pytest.raises(ValueError, match="24 x 32; take a height"):
        jax.eval_shape(model.predict, variables, odd)


def test_torchvisions_resnets_into_both_streams(variables, tmp_path):
    """The dilated stage 4 of basic blocks is outside the ResNet of three stages."""
    state_dict = {}
    tree = variables["params"]["flow"]
    stages = {**tree["resnet"], "layer4_0": tree["layer4_0"], "layer4_1": tree["layer4_1"]}
    random = np.random.default_rng(3)

    def name(path):
        steps = path.split("/")
        if steps[0].startswith("layer"):
            steps[0] = steps[0].replace("_", ".")
        text = ".".join(steps)
        for ours, theirs in (("skip_conv", "downsample.0"), ("skip_norm", "downsample.1"),
                             ("norm", "bn"), ("kernel", "weight"), ("scale", "weight")):
            text = text.replace(ours, theirs)
        return text

    for path, leaf in jax.tree_util.tree_leaves_with_path(stages):
        shape = leaf.shape
        key = name(jax.tree_util.keystr(path, simple=True, separator="/"))
        if "bn" in key or "downsample.1" in key:
            prefix = key.rpartition(".")[0]
            for statistic in ("running_mean", "running_var"):
                state_dict[f"{prefix}.{statistic}"] = random.random(shape).astype(np.float32)
        if len(shape) == 2:
            shape = (*shape[::-1], 1, 1)
        elif len(shape) == 4:
            shape = (shape[3], shape[2], shape[0], shape[1])
        state_dict[key] = random.random(shape).astype(np.float32)
    save_file(state_dict, tmp_path / "resnet18.safetensors")
    path = str(tmp_path / "resnet18.safetensors")
    loaded = build(backbone_weights=path, flow_weights=path).pretrained(variables)
    for stream in ("vision", "flow"):
        kernel = loaded["params"][stream]["layer4_1"]["conv2"]["kernel"]
        np.testing.assert_array_equal(
            kernel, np.moveaxis(state_dict["layer4.1.conv2.weight"], (0, 1), (-1, -2))
        )
        np.testing.assert_array_equal(
            loaded["batch_stats"][stream]["resnet"]["norm1"]["var"], state_dict["bn1.running_var"]
        )
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    assert loaded["params"]["mix"] is variables["params"]["mix"]
