"""I3D, ResNet-50, EfficientNet-Lite0, coordinates against stored results of public PyTorch code.

tests/goldens/backbones.py wrote them and tells how; torch is not needed here.
"""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seeded

from vseg_jax.backbones.efficientnet import EfficientNetLite
from vseg_jax.backbones.i3d import I3D
from vseg_jax.backbones.resnet import ResNet
from vseg_jax.layers.coordinates import coordinates
from vseg_jax.weights import efficientnet, i3d, resnet

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = {
    "i3d": (
        lambda **settings: I3D(norm="batch", **settings), i3d.from_public, i3d.RULES,
        (1, 8, 64, 64, 3), (1, 5, 32, 32, 3), 3,
    ),
    "resnet50": (
        lambda **settings: ResNet(50, norm="batch", **settings),
        resnet.from_torchvision, resnet.RULES, (1, 64, 64, 3), (1, 32, 32, 3), 2,
    ),
    "efficientnet": (
        lambda stages=5, **settings: EfficientNetLite(stages, norm="batch", **settings),
        efficientnet.from_pytorch, efficientnet.RULES, (1, 64, 96, 3), (1, 32, 64, 3), 3,
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    golden = np.load(GOLDENS / f"{request.param}.npz")
    state = seeded.state_dict(json.loads(str(golden["shapes"])))
    return golden, state, *CASES[request.param]


def variables_of(module, load, state, x):
    like = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), x)
    return load(state, like)


def close(ours, golden):
    np.testing.assert_allclose(ours, golden, atol=1e-4 * np.abs(golden).max(), rtol=1e-4)


def test_outputs(case):
    golden, state, build, load, _, shape, _, _ = case
    module, x = build(), seeded.inputs("golden", shape)
    variables = variables_of(module, load, state, x)
    outputs = jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, x)
    for i, output in enumerate(outputs):
        close(seeded.sample(output), golden[f"output {i}"])


def test_gradients(case):
    """Compares in float64, where rounding does not switch a ReLU or a maximum."""
    golden, state, build, load, rules, _, shape, stages = case
    x = seeded.inputs("golden", shape)
    variables = variables_of(build(stages=stages), load, state, x)
    with jax.enable_x64(True):
        module = build(stages=stages, dtype=jnp.float64)
        double = jax.tree.map(lambda a: np.asarray(a, np.float64), variables)

        @jax.jit
        def run(params, x):
            def loss(params, x):
                outputs = module.apply({**double, "params": params}, x, train=False)
                return sum((output**2).mean() for output in outputs)
            return jax.grad(loss, (0, 1))(params, x)

        by_params, by_input = run(double["params"], x.astype(np.float64))
    close(seeded.sample(by_input), golden["gradient by input"])
    norms = {k: np.linalg.norm(g.ravel()) for k, g in flat(by_params)}
    targets = {
        key: target for key in state if (target := target_of(key, rules)) in norms
    }
    assert set(targets.values()) == set(norms)
    for key, target in targets.items():
        np.testing.assert_allclose(norms[target], golden[f"gradient by {key}"], rtol=1e-4)


def test_coordinates():
    golden = np.load(GOLDENS / "coordinates.npz")["feature"]
    np.testing.assert_allclose(coordinates(*golden.shape[:2]), golden, atol=1e-6)


def flat(tree):
    for path, leaf in jax.tree.leaves_with_path(tree):
        yield "params/" + jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def target_of(key, rules):
    for rule in rules:
        if match := re.fullmatch(rule.pattern, key):
            return match.expand(rule.target) if rule.target else None
