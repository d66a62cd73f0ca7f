"""Loads public keys, spelled out unit by unit, into the backbones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pytorch_files import views, write_legacy, write_zip

from vseg_jax.backbones.i3d import I3D, MIXED
from vseg_jax.backbones.resnet import BLOCKS, ResNet
from vseg_jax.weights import i3d
from vseg_jax.weights.i3d import from_public
from vseg_jax.weights.resnet import from_torchvision, load

RNG = np.random.default_rng(0)


def abstract(module, *shape):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), x)


def torch_norm(prefix, channels):
    names = ("weight", "bias", "running_mean", "running_var")
    arrays = {f"{prefix}.{name}": RNG.normal(size=channels) for name in names}
    return {**arrays, f"{prefix}.num_batches_tracked": np.array(7)}


def i3d_units(names):
    """Yields (unit's public name, kernel shape [out, in, t, h, w]) of an I3D named by `names`."""
    channels = 3
    for unit, size, out in (("1a", 7, 64), ("2b", 1, 64), ("2c", 3, 192)):
        yield names["conv"].format(unit, size), (out, channels, size, size, size)
        channels = out
    for block, (b0, b1a, b1b, b2a, b2b, b3) in MIXED.items():
        units = (
            (channels, b0, 1), (channels, b1a, 1), (b1a, b1b, 3),
            (channels, b2a, 1), (b2a, b2b, 3), (channels, b3, 1),
        )
        for name, (inner, outer, size) in zip(names["branches"], units, strict=True):
            yield name.format(block), (outer, inner, size, size, size)
        channels = b0 + b1b + b2b + b3


PIERGIAJ = {
    "conv": "Conv3d_{0}_{1}x{1}",
    "branches": [f"Mixed_{{0}}.{b}" for b in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")],
    "norm": "bn", "head": "logits.conv3d",
}
HASSONY = {
    "conv": "conv3d_{0}_{1}x{1}",
    "branches": [
        f"mixed_{{0}}.branch_{b}" for b in ("0", "1.0", "1.1", "2.0", "2.1", "3.1")
    ],
    "norm": "batch3d", "head": "conv3d_0c_1x1.conv3d",
}
SONNET = {
    "conv": "RGB/inception_i3d/Conv3d_{0}_{1}x{1}",
    "branches": [
        f"RGB/inception_i3d/Mixed_{{0}}/Branch_{b}"
        for b in (
            "0/Conv3d_0a_1x1", "1/Conv3d_0a_1x1", "1/Conv3d_0b_3x3",
            "2/Conv3d_0a_1x1", "2/Conv3d_0b_3x3", "3/Conv3d_0b_1x1",
        )
    ],
}


def torch_i3d(names):
    arrays = {names["head"] + ".weight": np.ones((400, 1024, 1, 1, 1))}
    arrays[names["head"] + ".bias"] = np.ones(400)
    for unit, shape in i3d_units(names):
        arrays[f"{unit}.conv3d.weight"] = RNG.random(shape, np.float32)
        arrays |= torch_norm(f"{unit}.{names['norm']}", shape[0])
    return arrays


def sonnet_i3d():
    arrays = {"RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/w": np.ones((1, 1, 1, 1024, 400))}
    for unit, shape in i3d_units(SONNET):
        unit = unit.replace("Mixed_5b/Branch_2/Conv3d_0b_3x3", "Mixed_5b/Branch_2/Conv3d_0a_3x3")
        kernel = RNG.random((*shape[2:], shape[1], shape[0]), np.float32)
        arrays[f"{unit}/conv_3d/w"] = kernel
        for name in ("beta", "moving_mean", "moving_variance"):
            arrays[f"{unit}/batch_norm/{name}"] = RNG.normal(size=(1, 1, 1, 1, shape[0]))
    return arrays


@pytest.fixture(scope="module")
def i3d_like():
    return abstract(I3D(), 1, 2, 32, 32, 3)


@pytest.mark.parametrize("names", [PIERGIAJ, HASSONY], ids=["piergiaj", "hassony2"])
def test_i3d_from_torch(names, i3d_like):
    state_dict = torch_i3d(names)
    tree = from_public(state_dict, i3d_like)
    theirs = names["branches"][4].format("4d")
    ours = tree["params"]["mixed_4d"]["branch_2_b"]
    kernel = state_dict[theirs + ".conv3d.weight"]
    np.testing.assert_array_equal(ours["conv"]["kernel"][0, 1, 2], kernel[:, :, 0, 1, 2].T)
    np.testing.assert_allclose(
        tree["batch_stats"]["mixed_4d"]["branch_2_b"]["norm"]["var"],
        state_dict[f"{theirs}.{names['norm']}.running_var"].astype(np.float32),
    )


def test_i3d_from_deepmind(i3d_like):
    state_dict = sonnet_i3d()
    tree = from_public(state_dict, i3d_like)
    theirs = "RGB/inception_i3d/Mixed_5b/Branch_2/Conv3d_0a_3x3/"
    unit = tree["params"]["mixed_5b"]["branch_2_b"]
    np.testing.assert_array_equal(unit["conv"]["kernel"], state_dict[theirs + "conv_3d/w"])
    np.testing.assert_array_equal(unit["norm"]["scale"], 1)
    np.testing.assert_allclose(
        unit["norm"]["bias"], state_dict[theirs + "batch_norm/beta"].ravel().astype(np.float32)
    )


def test_i3d_of_fewer_stages_drops_only_what_it_lacks():
    state_dict = torch_i3d(HASSONY)
    like = abstract(I3D(stages=3), 1, 2, 32, 32, 3)
    assert "mixed_4b" not in from_public(state_dict, like)["params"]
    del state_dict["mixed_3c.branch_0.batch3d.bias"]
    state_dict["mixed_3d.branch_0.conv3d.weight"] = np.ones((1, 1, 1, 1, 1))
    with pytest.raises(ValueError) as error:
        from_public(state_dict, like)
    assert "no key fills params/mixed_3c/branch_0/norm/bias" in str(error.value)
    assert "unexpected: mixed_3d.branch_0.conv3d.weight" in str(error.value)


def test_files_of_pytorch(tmp_path):
    """A file as `model.backbone_weights` names it; the first two stages, to write little."""
    state_dict = {key: array for key, array in torch_i3d(PIERGIAJ).items()
                  if key.startswith(("Conv3d", "logits"))}
    like = abstract(I3D(stages=2), 1, 2, 32, 32, 3)
    for write in (write_zip, write_legacy):
        tree = i3d.load(write(tmp_path / "rgb_imagenet.pt", views(state_dict)), like)
        jax.tree.map(np.testing.assert_array_equal, tree, from_public(state_dict, like))


def torch_resnet(depth, width=64):
    arrays = {
        "conv1.weight": RNG.random((width, 3, 7, 7), np.float32),
        "fc.weight": np.ones((1000, 9)), "fc.bias": np.ones(1000),
        **torch_norm("bn1", width),
    }
    expansion = 4 if depth >= 50 else 1
    channels = width
    for stage, blocks in enumerate(BLOCKS[depth]):
        inner = width * 2**stage
        for block in range(blocks):
            name, outer = f"layer{stage + 1}.{block}", inner * expansion
            if depth >= 50:
                convs = ((inner, channels, 1), (inner, inner, 3), (outer, inner, 1))
            else:
                convs = ((inner, channels, 3), (inner, inner, 3))
            for i, (out, into, size) in enumerate(convs, start=1):
                arrays[f"{name}.conv{i}.weight"] = RNG.random((out, into, size, size), np.float32)
                arrays |= torch_norm(f"{name}.bn{i}", out)
            if channels != outer:
                shape = (outer, channels, 1, 1)
                arrays[f"{name}.downsample.0.weight"] = RNG.random(shape, np.float32)
                arrays |= torch_norm(f"{name}.downsample.1", outer)
            channels = outer
    return arrays


@pytest.mark.parametrize("depth", BLOCKS)
def test_resnet_from_torchvision(depth):
    state_dict = torch_resnet(depth, width=8)
    tree = from_torchvision(state_dict, abstract(ResNet(depth, width=8), 1, 32, 32, 3))
    block = tree["params"]["layer4_1"]
    theirs = state_dict["layer4.1.conv2.weight"]
    np.testing.assert_array_equal(block["conv2"]["kernel"][1, 2], theirs[:, :, 1, 2].T)
    skip = state_dict["layer3.0.downsample.0.weight"]
    np.testing.assert_array_equal(
        tree["params"]["layer3_0"]["skip_conv"]["kernel"], skip[:, :, 0, 0].T
    )


def test_resnet_of_another_depth_is_refused():
    like = abstract(ResNet(50, width=8), 1, 32, 32, 3)
    with pytest.raises(ValueError) as error:
        from_torchvision(torch_resnet(34, width=8), like)
    said = str(error.value)
    # 16 blocks lack conv3 and its norm (5 arrays each), and stage 1 its skip connection (5).
    assert "85 arrays missing" in said and "They look like ResNet-34 (a backbone: " in said


def test_the_resnet_of_a_segmentation_network(tmp_path):
    """torchvision's DeepLab and FCN: the backbone lies under a name, next to heads."""
    alone = torch_resnet(101, width=4)
    alone = {key: array for key, array in alone.items() if not key.startswith("fc.")}
    deeplab = {f"backbone.{key}": array for key, array in alone.items()} | {
        "classifier.0.convs.0.0.weight": np.ones((2, 2, 1, 1)), "classifier.4.bias": np.ones(21),
        "aux_classifier.4.weight": np.ones((21, 2, 1, 1))}
    like = abstract(ResNet(101, width=4), 1, 32, 32, 3)
    wanted = from_torchvision(alone, like)
    path = write_zip(tmp_path / "deeplab.pth", views(deeplab))
    jax.tree.map(np.testing.assert_array_equal, load(path, like), wanted)
    path = write_legacy(tmp_path / "wrapped.pth", views({f"module.{k}": v for k, v in
                                                         deeplab.items()}))
    jax.tree.map(np.testing.assert_array_equal, load(path, like), wanted)
    with pytest.raises(ValueError, match=r"unexpected: head\.weight"):
        from_torchvision({**deeplab, "head.weight": np.ones(1)}, like)
