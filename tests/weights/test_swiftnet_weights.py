"""Loads the public keys of STM and SwiftNet; tests/parity compares real values."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pytorch_files import views, write_zip

from vseg_jax.models.swiftnet.network import StmNetwork, SwiftNetwork
from vseg_jax.weights import swiftnet

GOLDENS = Path(__file__).parents[1] / "goldens"
NETWORKS = {"stm": StmNetwork(50), "swiftnet": SwiftNetwork(18)}


def like_of(network):
    shape = (1, 32, 32, 3), (1, 2, 32, 32), (1, 2, 32, 32)
    inputs = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shape]
    return jax.eval_shape(lambda *x: network.init(jax.random.key(0), *x), *inputs)


@pytest.fixture(scope="module", params=NETWORKS)
def public(request):
    """Returns (name, public state dict whose arrays each hold their number, our tree of shapes)."""
    golden = np.load(GOLDENS / f"{request.param}.npz")
    shapes = json.loads(str(golden["shapes"]))
    state = {k: np.full(shape, i, np.float32) for i, (k, shape) in enumerate(shapes.items())}
    return request.param, state, like_of(NETWORKS[request.param])


def test_every_public_key_is_used(public, tmp_path):
    name, state, like = public
    path = tmp_path / "weights.npz"
    np.savez(path, **{f"module.{k}": v for k, v in state.items()})  # DataParallel's prefix
    variables = swiftnet.load(path, like)
    params, stats = variables["params"], variables["batch_stats"]
    number = {k: v.ravel()[0] for k, v in state.items()}
    pairs = [
        (params["memory_kv"]["key"]["bias"], "KV_M_r4.Key.bias"),
        (params["query_kv"]["value"]["kernel"], "KV_Q_r4.Value.weight"),
        (params["decoder"]["refine2"]["skip_block"]["conv2"]["bias"],
         "Decoder.RF2.ResFS.conv2.bias"),
    ]
    if name == "stm":
        resnet = params["memory_encoder"]["resnet"]
        pairs += [
            (params["memory_encoder"]["masks"]["others"], "Encoder_M.conv1_o.weight"),
            (resnet["layer3_5"]["conv3"]["kernel"], "Encoder_M.res4.5.conv3.weight"),
            (params["encoder"]["layer1_0"]["skip_conv"]["kernel"],
             "Encoder_Q.res2.0.downsample.0.weight"),
            (stats["encoder"]["norm1"]["var"], "Encoder_Q.bn1.running_var"),
        ]
    else:
        pairs += [
            (params["aggregation"]["masks_r4"]["mask"], "LAE.conv2_m.weight"),
            (params["aggregation"]["fuse3"]["kernel"], "LAE.conv_fusion3.weight"),
            (params["aspp"]["branch_1"]["kernel"], "aspp.aspp1.atrous_conv.weight"),
            (stats["encoder"]["layer2_0"]["skip_norm"]["mean"],
             "Encoder.res3.0.downsample.1.running_mean"),
        ]
    for ours, key in pairs:
        assert np.all(ours == number[key]), key


def test_keys_unexpected_and_missing_are_named(public):
    _, state, like = public
    state_dict = dict(state)
    del state_dict["KV_M_r4.Key.bias"]
    state_dict["Decoder.RF4.convFS.weight"] = np.zeros((1, 1, 3, 3))
    with pytest.raises(ValueError) as error:
        swiftnet.from_public(state_dict, like)
    assert "no key fills params/memory_kv/key/bias" in str(error.value)
    assert "unexpected: Decoder.RF4.convFS.weight" in str(error.value)


def test_weights_of_the_other_network_are_refused():
    like = like_of(StmNetwork(18, width=4))
    with pytest.raises(ValueError, match=r"unexpected: LAE\.conv1_m\.weight"):
        swiftnet.from_public({"LAE.conv1_m.weight": np.zeros((64, 1, 7, 7))}, like)


@pytest.mark.parametrize("network", [StmNetwork(18, width=4), SwiftNetwork(18, width=4)])
def test_torchvision_weights_fill_every_encoder(network, tmp_path):
    like = like_of(network)
    ours = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), like)
    random = np.random.default_rng(0)
    state_dict = {
        "fc.weight": np.ones((1000, 32)), "conv1.weight": random.normal(size=(4, 3, 7, 7)),
    }
    state_dict |= norm("bn1", 4)
    for stage, width in enumerate((4, 8, 16, 32), start=1):
        for block in (0, 1):
            before = width if block or stage == 1 else width // 2
            name = f"layer{stage}.{block}"
            state_dict[f"{name}.conv1.weight"] = random.normal(size=(width, before, 3, 3))
            state_dict[f"{name}.conv2.weight"] = random.normal(size=(width, width, 3, 3))
            state_dict |= norm(f"{name}.bn1", width) | norm(f"{name}.bn2", width)
            if before != width:
                shape = (width, before, 1, 1)
                state_dict[f"{name}.downsample.0.weight"] = random.normal(size=shape)
                state_dict |= norm(f"{name}.downsample.1", width)
    path = write_zip(tmp_path / "resnet18.pth", views(state_dict))
    variables = swiftnet.load_backbone(path, ours)
    params = variables["params"]
    encoders = [params["encoder"]]
    if "memory_encoder" in params:
        encoders.append(params["memory_encoder"]["resnet"])
    for encoder in encoders:
        np.testing.assert_allclose(
            encoder["layer3_0"]["skip_conv"]["kernel"],
            state_dict["layer3.0.downsample.0.weight"][:, :, 0, 0].T, rtol=1e-6,
        )
        assert np.all(encoder["norm1"]["scale"] == 1)
    assert not np.any(params["decoder"]["reduce"]["kernel"])  # nothing else was touched
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, ours)


def norm(prefix, channels):
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{prefix}.{name}": np.ones(channels) for name in names}
