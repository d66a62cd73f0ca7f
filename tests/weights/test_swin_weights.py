"""Loads spelled-out public keys into Swin and VGGish."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pytorch_files import views, write_legacy, write_zip

from vseg_jax.backbones.swin import Swin
from vseg_jax.backbones.vggish import Vggish
from vseg_jax.weights import swin, vggish

BLOCKS, WIDTH, WINDOW = (2, 1, 1, 1), 4, 3
RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def abstract(module, shape, **settings):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), x, **settings), x)


NETWORK = Swin(width=WIDTH, blocks=BLOCKS, heads=(1, 1, 2, 2), window=WINDOW)
LIKE = abstract(NETWORK, (1, 32, 32, 3), train=False)


def norm(name, width):
    return {f"{name}.weight": array(width), f"{name}.bias": array(width)}


def linear(name, inputs, outputs, bias=True):
    weight = {f"{name}.weight": array(outputs, inputs)}
    return weight | ({f"{name}.bias": array(outputs)} if bias else {})


def block(name, width, heads, mlp):
    return {
        **norm(f"{name}.norm1", width), **norm(f"{name}.norm2", width),
        f"{name}.attn.relative_position_bias_table": array((2 * WINDOW - 1) ** 2, heads),
        f"{name}.attn.relative_position_index": np.zeros((9, 9), np.int64),
        **linear(f"{name}.attn.qkv", width, 3 * width), **linear(f"{name}.attn.proj", width, width),
        **linear(f"{name}.{mlp[0]}", width, 4 * width),
        **linear(f"{name}.{mlp[1]}", 4 * width, width),
    }


def state(layout):
    """Returns the state dict of a classifier (layout "authors": of MaskFormer's backbone)."""
    torchvision = layout == "torchvision"
    patches, patches_norm = (
        ("features.0.0", "features.0.2") if torchvision else
        ("patch_embed.proj", "patch_embed.norm")
    )
    arrays = {f"{patches}.weight": array(WIDTH, 3, 4, 4), f"{patches}.bias": array(WIDTH)}
    arrays |= norm(patches_norm, WIDTH)
    mlp = ("mlp.0", "mlp.3") if torchvision else ("mlp.fc1", "mlp.fc2")
    for i, (blocks, heads) in enumerate(zip(BLOCKS, (1, 1, 2, 2), strict=True)):
        width = WIDTH * 2**i
        stage = f"features.{2 * i + 1}" if torchvision else f"layers.{i}.blocks"
        for j in range(blocks):
            arrays |= block(f"{stage}.{j}", width, heads, mlp)
        if i:
            merging = {
                "torchvision": f"features.{2 * i}", "timm": f"layers.{i}.downsample",
                "authors": f"layers.{i - 1}.downsample",
            }[layout]
            arrays |= norm(f"{merging}.norm", 2 * width)
            arrays |= linear(f"{merging}.reduction", 2 * width, width, bias=False)
    if layout == "authors":
        for i in range(4):
            arrays |= norm(f"norm{i}", WIDTH * 2**i)
        return arrays
    head = "head.fc" if layout == "timm" else "head"
    return arrays | norm("norm", 8 * WIDTH) | linear(head, 8 * WIDTH, 10)


def test_the_layout_of_the_authors():
    state_dict = state("authors") | {"layers.0.blocks.1.attn_mask": array(4, 9, 9)}
    params = swin.from_public(state_dict, LIKE)["params"]
    np.testing.assert_array_equal(
        params["stage1_1"]["attention"]["inputs"]["kernel"],
        state_dict["layers.0.blocks.1.attn.qkv.weight"].T,
    )
    np.testing.assert_array_equal(
        params["merging2"]["reduction"]["kernel"],
        state_dict["layers.0.downsample.reduction.weight"].T,
    )
    np.testing.assert_array_equal(
        params["patches"]["kernel"][1, 2, 0], state_dict["patch_embed.proj.weight"][:, 0, 1, 2]
    )
    np.testing.assert_array_equal(params["norm3"]["scale"], state_dict["norm2.weight"])


@pytest.mark.parametrize("layout,name", [
    ("timm", "layers.2.downsample"), ("torchvision", "features.4"),
])
def test_classifiers(layout, name):
    state_dict = state(layout)
    params = swin.from_public(state_dict, LIKE)["params"]
    np.testing.assert_array_equal(
        params["merging3"]["reduction"]["kernel"], state_dict[f"{name}.reduction.weight"].T
    )
    # Norms of the maps are not in the file; they keep their initial values.
    np.testing.assert_array_equal(params["norm2"]["scale"], np.ones(8))
    np.testing.assert_array_equal(params["norm2"]["bias"], np.zeros(8))
    assert "norm0.weight" not in state_dict


@pytest.mark.parametrize("layout", ["authors", "timm", "torchvision"])
def test_every_key_at_fault_is_named(layout):
    state_dict = state(layout)
    lost = next(key for key in state_dict if "mlp" in key and key.endswith("bias"))
    del state_dict[lost]
    state_dict["surplus.weight"] = array(3)
    with pytest.raises(ValueError) as error:
        swin.from_public(state_dict, LIKE)
    assert "unexpected: surplus.weight" in str(error.value)
    assert "missing: no key fills params/stage1_0/dense1/bias" in str(error.value)


def test_a_file_of_pytorch(tmp_path):
    """The authors' files hold the state dict under "model"."""
    state_dict = state("authors")
    path = write_zip(tmp_path / "swin.pth", {"model": views(state_dict), "epoch": 3})
    jax.tree.map(np.testing.assert_array_equal, swin.load(path, LIKE),
                 swin.from_public(state_dict, LIKE))


def test_a_different_window_is_refused():
    like = abstract(NETWORK.clone(window=4), (1, 32, 32, 3), train=False)
    with pytest.raises(ValueError, match=r"bias_table gives \[25, 1\].*\[49, 1\]"):
        swin.from_public(state("authors"), like)


def vggish_state(width, hidden):
    arrays, channels = {}, 1
    for number, times in {0: 1, 3: 2, 6: 4, 8: 4, 11: 8, 13: 8}.items():
        arrays[f"features.{number}.weight"] = array(times * width, channels, 3, 3)
        channels = times * width
        arrays[f"features.{number}.bias"] = array(channels)
    for number, (inputs, outputs) in {
        0: (24 * channels, hidden), 2: (hidden, hidden), 4: (hidden, 128)
    }.items():
        arrays |= linear(f"embeddings.{number}", inputs, outputs)
    return arrays


def test_vggish(tmp_path):
    state_dict = vggish_state(2, 8) | {"pproc.pca_means": array(128, 1)}
    for embedding in (True, False):
        network = Vggish(width=2, hidden=8, embedding=embedding)
        params = vggish.from_public(state_dict, abstract(network, (1, 96, 64)))["params"]
        np.testing.assert_array_equal(
            params["conv3_2"]["kernel"][0, 1], state_dict["features.8.weight"][:, :, 0, 1].T
        )
        np.testing.assert_array_equal(
            params["dense2"]["kernel"], state_dict["embeddings.2.weight"].T
        )
        assert ("dense3" in params) == embedding
    path = write_legacy(tmp_path / "vggish.pth", views(state_dict))
    assert set(vggish.load(path, abstract(network, (1, 96, 64)))["params"]) == set(params)
    with pytest.raises(ValueError, match="unexpected: stray"):
        vggish.from_public(state_dict | {"stray": array(1)}, abstract(network, (1, 96, 64)))
