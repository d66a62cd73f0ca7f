"""Compares Swin and VGGish with public code (docs/parity.md): 1e-5 of the largest value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import references  # noqa: E402
import seeded  # noqa: E402
import swin_reference  # noqa: E402

from vseg_jax.backbones.swin import Swin  # noqa: E402
from vseg_jax.backbones.vggish import Vggish  # noqa: E402
from vseg_jax.weights import swin, vggish  # noqa: E402

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
SMALL = swin_reference.SWIN
# All maps larger than a window of 3: classifiers and MaskFormer say the same of them.
IMAGE = seeded.inputs("large image", (1, 100, 132, 3))


def repository(name):
    root = references.folder()
    if root is None or not (root / name).is_dir():
        pytest.skip(f"no {name} under VSEG_REFERENCES")
    return root


@functools.cache
def network(window):
    return Swin(**SMALL | {"window": window})


def ours(state_dict, x, window=3):
    like = jax.eval_shape(lambda x: network(window).init(jax.random.key(0), x, train=False), x)
    run = jax.jit(functools.partial(network(window).apply, train=False))
    return run(swin.from_public(state_dict, like), x)


def compare(outputs, theirs):
    for mine, other in zip(outputs, theirs, strict=True):
        other = other.detach().numpy()
        error = np.abs(mine - other).max() / np.abs(other).max()
        print(f"{other.shape}: {error:.1e}")
        assert error < TOLERANCE


@pytest.mark.parametrize("window,shape", [
    (3, (2, 61, 74, 3)), (4, (1, 96, 128, 3)), (5, (1, 33, 47, 3)), (7, (1, 21, 100, 3)),
])
def test_mask2former(window, shape):
    peer = swin_reference.mask2former(repository("Mask2Former"), window)
    state, x = swin_reference.state(peer), seeded.inputs("image", shape)
    theirs = peer(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).values()
    compare(ours(state, x, window), [t.movedim(1, -1) for t in theirs])


def test_a_file_of_the_authors(tmp_path):
    """The authors' files hold the weights under "model"."""
    peer = swin_reference.mask2former(repository("Mask2Former"))
    state = swin_reference.state(peer)
    torch.save({"model": peer.state_dict()}, tmp_path / "swin.pth")
    like = jax.eval_shape(
        lambda x: network(3).init(jax.random.key(0), x, train=False), jnp.zeros((1, 64, 64, 3))
    )
    params = swin.load(tmp_path / "swin.pth", like)["params"]
    np.testing.assert_array_equal(params["norm1"]["bias"], state["norm0.bias"])


def test_torchvision():
    torchvision = pytest.importorskip("torchvision")
    peer = torchvision.models.SwinTransformer(
        [4, 4], SMALL["width"], list(SMALL["blocks"]), list(SMALL["heads"]), [3, 3]
    ).eval()
    state = swin_reference.state(peer)
    state = state | {k: v.numpy() for k, v in peer.state_dict().items() if k not in state}
    x, theirs = torch.from_numpy(np.moveaxis(IMAGE, -1, 1).copy()), []
    for i, layer in enumerate(peer.features):
        x = layer(x)
        if i % 2:
            theirs.append(torch.nn.functional.layer_norm(x, x.shape[-1:]))
    compare(ours(state, IMAGE), theirs)


def test_timm():
    """Of maps that windows divide: of others timm rolls before it pads, the authors afterwards."""
    timm = pytest.importorskip("timm")
    images = seeded.inputs("even image", (1, 96, 192, 3))
    peer = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=images.shape[1:3], embed_dim=SMALL["width"],
        depths=SMALL["blocks"], num_heads=SMALL["heads"], window_size=3,
    ).eval()
    state, x = swin_reference.state(peer), torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    theirs = [t.movedim(1, -1) for t in peer.forward_intermediates(x, intermediates_only=True)]
    theirs = [torch.nn.functional.layer_norm(t, t.shape[-1:]) for t in theirs]
    compare(ours(state, images), theirs)


def test_torchvggish():
    peer = swin_reference.torchvggish(repository("torchvggish"))
    state, x = swin_reference.state(peer), seeded.inputs("patches", swin_reference.PATCHES)
    features = []
    peer.embeddings[3].register_forward_hook(lambda module, inputs, y: features.append(y.clone()))
    whole = peer(torch.from_numpy(x[:, None]))
    for embedding, theirs in ((False, features[0]), (True, whole)):
        ours = Vggish(embedding=embedding)
        like = jax.eval_shape(lambda x, ours=ours: ours.init(jax.random.key(0), x), x)
        compare([jax.jit(ours.apply)(vggish.from_public(state, like), x)], [theirs])
