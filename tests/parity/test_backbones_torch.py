"""Compares I3D, ResNet, EfficientNet, coordinates with public code (docs/parity.md): 1e-4."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import references  # noqa: E402
import seeded  # noqa: E402

from vseg_jax.backbones.efficientnet import EfficientNetLite  # noqa: E402
from vseg_jax.backbones.i3d import I3D  # noqa: E402
from vseg_jax.backbones.resnet import ResNet  # noqa: E402
from vseg_jax.layers.coordinates import coordinates  # noqa: E402
from vseg_jax.weights import efficientnet, i3d, resnet  # noqa: E402
from vseg_jax.weights.convert import convert  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(references.folder() is None, reason="VSEG_REFERENCES is not set"),
]
TOLERANCE = 1e-4


def error(ours, theirs) -> float:
    """Returns the largest difference relative to the largest value."""
    theirs = np.asarray(theirs)
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


def seed(network) -> dict[str, np.ndarray]:
    """Fills a torch network with seeded weights and returns them."""
    state = seeded.state_dict({k: tuple(v.shape) for k, v in network.state_dict().items()})
    network.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    return state


def to_torch(x: np.ndarray):
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()


def from_torch(x) -> np.ndarray:
    return np.moveaxis(x.detach().numpy(), 1, -1)


def errors_of(ours, peer, parameters, variables, rules, x, train):
    """Returns errors of all outputs, and of all gradients of a weighted sum of them."""
    x_peer = to_torch(x)
    peer_outputs = peer(x_peer)
    shapes = [from_torch(o).shape for o in peer_outputs]
    weights = [seeded.inputs(f"weight {s}", s) / np.sqrt(np.prod(s)) for s in shapes]
    weights = [w.astype(x.dtype) for w in weights]
    sum(
        (torch.from_numpy(np.moveaxis(w, -1, 1).copy()) * o).sum()
        for w, o in zip(weights, peer_outputs, strict=True)
    ).backward()

    @jax.jit
    def run(params, x):
        def loss(params, x):
            outputs, new = ours.apply(
                {**variables, "params": params}, x, train=train, mutable=["batch_stats"]
            )
            return sum((w * o).sum() for w, o in zip(weights, outputs, strict=True)), (outputs, new)
        return jax.grad(loss, (0, 1), has_aux=True)(params, x)

    (by_params, by_input), (outputs, new) = run(variables["params"], jnp.asarray(x))
    gradients = {k: p.grad.numpy() for k, p in parameters.items() if p.grad is not None}
    expected = convert(gradients, rules, {"params": variables["params"]})["params"]
    pairs = {f"output {i}": pair for i, pair in enumerate(
        zip(outputs, map(from_torch, peer_outputs), strict=True)
    )}
    pairs["gradient by input"] = by_input, from_torch(x_peer.grad)
    for path, gradient in jax.tree.leaves_with_path(by_params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        pairs[f"gradient by {name}"] = gradient, _at(expected, path)
    return {name: error(*pair) for name, pair in pairs.items()}, new


def _at(tree, path):
    for step in path:
        tree = tree[step.key]
    return tree


def compare(name, ours, peer, network, load, rules, x, train=False):
    """Compares outputs in float32, and outputs and gradients in float64.

    Where rounding switches a ReLU or a maximum, single gradients change by far more than by
    rounding itself; this does not happen in float64, so gradients are compared there.
    """
    state = seed(network)
    like = jax.eval_shape(lambda x: ours.init(jax.random.key(0), x, train=False), x)
    variables = load(state, like)
    with torch.no_grad():
        theirs = [from_torch(o) for o in peer(to_torch(x))]
    outputs, _ = jax.jit(
        lambda v, x: ours.apply(v, x, train=train, mutable=["batch_stats"])
    )(variables, x)
    single = max(error(o, t) for o, t in zip(outputs, theirs, strict=True))
    seed(network)  # training has changed its statistics
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: np.asarray(a, np.float64), variables)
        errors, new = errors_of(
            ours.clone(dtype=jnp.float64), peer, dict(network.double().named_parameters()),
            double, rules, x.astype(np.float64), train,
        )
    worst = max(errors, key=errors.get)
    print(f"\n{name}: outputs in float32 {single:.1e}; in float64 the worst of {len(errors)} "
          f"outputs and gradients {errors[worst]:.1e} ({worst})")
    assert single < TOLERANCE
    assert errors[worst] < TOLERANCE, {k: v for k, v in errors.items() if v >= TOLERANCE}
    return new


def test_coordinates():
    for repository, file in (("ACGA", "util/tool.py"), ("CSTM", "utils/tool.py")):
        theirs = references.load(repository, file).get_video_spatial_feature(5, 7)
        assert error(coordinates(5, 7), np.moveaxis(theirs, 0, -1)) < 1e-6


def test_efficientnet():
    peer = references.efficientnet().eval()
    compare("EfficientNet-Lite0", EfficientNetLite(norm="batch"), peer, peer.network,
            efficientnet.from_pytorch, efficientnet.RULES,
            seeded.inputs("lite", (2, 64, 96, 3)))


@pytest.mark.parametrize(
    "repository,eps,shape",
    [
        ("kinetics_i3d_pytorch", 1e-3, (2, 8, 64, 64, 3)),
        # TensorFlow's padding at sizes that strides do not divide, which only this port computes.
        ("pytorch-i3d", 1e-3, (1, 7, 49, 71, 3)),
        ("ACGA", 1e-5, (1, 8, 96, 64, 3)),
    ],
)
def test_i3d(repository, eps, shape):
    peer = references.i3d(repository).eval()
    ours, x = I3D(norm="batch", eps=eps), seeded.inputs(repository, shape)
    compare(repository, ours, peer, peer.network, i3d.from_public, i3d.RULES, x)


def test_i3d_layer_by_layer():
    """Compares each unit and block on the input that the reference's gets."""
    peer = references.i3d().eval()
    state = seed(peer.network)
    x = seeded.inputs("layers", (1, 8, 64, 64, 3))
    ours = I3D(norm="batch")
    like = jax.eval_shape(lambda x: ours.init(jax.random.key(0), x, train=False), x)
    variables = i3d.from_public(state, like)
    theirs = {}
    for name, module in peer.network.named_modules():
        module.register_forward_hook(lambda m, i, out, name=name: theirs.setdefault(name, out))
    with torch.no_grad():
        peer(to_torch(x))
    _, captured = jax.jit(
        lambda v, x: ours.apply(v, x, train=False, capture_intermediates=True, mutable=True)
    )(variables, x)
    unit_names = {"branch_1_a": "branch_1.0", "branch_1_b": "branch_1.1",
                  "branch_2_a": "branch_2.0", "branch_2_b": "branch_2.1", "branch_3": "branch_3.1"}
    windows = {"conv_1a": "conv3d_1a_7x7", "conv_2b": "conv3d_2b_1x1", "conv_2c": "conv3d_2c_3x3"}
    compared = 0
    for name, inner in captured["intermediates"].items():
        if name == "__call__":
            continue
        pairs = [(inner, windows.get(name, name))]
        if name.startswith("mixed"):
            pairs += [(inner[u], f"{name}.{unit_names.get(u, u)}") for u in inner if "branch" in u]
        for tree, foreign in pairs:
            assert error(tree["__call__"][0], from_torch(theirs[foreign])) < TOLERANCE, foreign
            compared += 1
    assert compared == 3 + 9 * 7


@pytest.mark.parametrize(
    "depth,dilated,train",
    [
        (18, (False,) * 3, False),
        (34, (False,) * 3, False),
        (50, (False,) * 3, False),
        (50, (False, True, True), False),
        (50, (False,) * 3, True),
        (101, (False,) * 3, False),
    ],
)
def test_resnet(depth, dilated, train):
    network = references.resnet(depth, dilated).train(train)
    ours, x = ResNet(depth, dilated, norm="batch"), seeded.inputs("image", (3, 65, 96, 3))

    def peer(x):
        return network(x)[1:]  # the first is the stem

    name = f"ResNet-{depth} dilated {dilated} {'train' if train else 'eval'}"
    new = compare(name, ours, peer, network, resnet.from_torchvision, resnet.RULES, x, train)
    if train:
        moved = {k: v.numpy() for k, v in network.state_dict().items() if "running" in k}
        expected = convert(moved, resnet.RULES, new)
        for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(expected), strict=True):
            assert error(a, b) < TOLERANCE
