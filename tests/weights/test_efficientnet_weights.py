"""Loads the public keys of EfficientNet-Lite0; tests/parity compares real values."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pytorch_files import views, write_legacy

from vseg_jax.backbones.efficientnet import EfficientNetLite
from vseg_jax.models.qvim import Qvim, QvimConfig
from vseg_jax.models.rcf import Rcf, RcfConfig
from vseg_jax.models.swiftnet.network import SwiftNetwork
from vseg_jax.weights import efficientnet, swiftnet

GOLDEN = Path(__file__).parents[1] / "goldens/efficientnet.npz"


@pytest.fixture(scope="module")
def public():
    """Returns the public state dict, in which each array is filled with its number."""
    shapes = json.loads(str(np.load(GOLDEN)["shapes"]))
    return {k: np.full(shape, i, np.float32) for i, (k, shape) in enumerate(shapes.items())}


def like_of(module, *shapes, **options):
    inputs = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
    return jax.eval_shape(lambda *x: module.init(jax.random.key(0), *x, **options), *inputs)


@pytest.mark.parametrize("levels", [4, 5])
def test_every_public_key_has_its_place(public, levels):
    like = like_of(EfficientNetLite(levels), (1, 32, 32, 3), train=False)
    variables = efficientnet.from_pytorch(public, like)
    params, stats = variables["params"], variables["batch_stats"]
    for ours, key in [
        (params["stem"]["kernel"], "_conv_stem.weight"),
        (params["block10_depthwise"]["kernel"], "_blocks.10._depthwise_conv.weight"),
        (stats["block1_norm0"]["var"], "_blocks.1._bn0.running_var"),
    ]:
        assert ours.ravel()[0] == public[key].ravel()[0]


def test_keys_unexpected_and_missing_are_named(public):
    like = like_of(EfficientNetLite(4), (1, 32, 32, 3), train=False)
    state = {**public, "_blocks.3._se_reduce.weight": np.zeros((1, 2, 1, 1))}
    del state["_blocks.4._project_conv.weight"]
    with pytest.raises(ValueError) as error:
        efficientnet.from_pytorch(state, like)
    assert "unexpected: _blocks.3._se_reduce.weight" in str(error.value)
    assert "missing: no key fills params/block4_project/kernel" in str(error.value)


def test_swiftnet_takes_it_as_its_encoder(public, tmp_path):
    network = SwiftNetwork(backbone="efficientnet_lite0")
    like = like_of(network, (1, 32, 32, 3), (1, 2, 32, 32), (1, 2, 32, 32))
    path = write_legacy(tmp_path / "lite.pth", views({f"module.{k}": v for k, v in public.items()}))
    variables = swiftnet.load_backbone(path, like)
    kernel = variables["params"]["encoder"]["lite"]["block0_project"]["kernel"]
    assert np.all(kernel == public["_blocks.0._project_conv.weight"].ravel()[0])
    assert variables["params"]["memory_kv"] is like["params"]["memory_kv"]


def test_qvim_takes_it_as_its_backbone(public, tmp_path):
    path = write_legacy(tmp_path / "lite.pth", views(public))
    model = Qvim(QvimConfig(backbone="efficientnet_lite0", backbone_weights=str(path),
                            text="words", channels=8, decoder_channels=(4,) * 5, queue=8))
    batch = {"frames": np.zeros((1, 1, 32, 32, 3)), "tokens": np.zeros((1, 5))}
    loaded = model.pretrained(jax.eval_shape(model.init, jax.random.key(0), batch))
    kernel = loaded["params"]["visual"]["lite"]["block15_project"]["kernel"]
    assert np.all(kernel == public["_blocks.15._project_conv.weight"].ravel()[0])


def test_rcf_takes_it_as_its_backbone(public, tmp_path):
    path = write_legacy(tmp_path / "lite.pth", views(public))
    model = Rcf(RcfConfig(backbone="efficientnet_lite0", backbone_weights=str(path), channels=8,
                          hidden=8, encoder_layers=1, decoder_layers=1))
    loaded = model.pretrained(jax.eval_shape(model.init, jax.random.key(0), {}))
    kernel = loaded["params"]["backbone"]["block15_project"]["kernel"]
    assert np.all(kernel == public["_blocks.15._project_conv.weight"].ravel()[0])
