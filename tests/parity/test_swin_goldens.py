"""Compares Swin and VGGish with stored results of public PyTorch code.

tests/goldens/swin.py wrote them and tells how; torch is not needed here.
"""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import seeded
import swin_reference

from vseg_jax.backbones.swin import Swin
from vseg_jax.backbones.vggish import Vggish
from vseg_jax.weights import swin, vggish

GOLDENS = Path(__file__).parents[1] / "goldens"


def stored(name):
    golden = dict(np.load(GOLDENS / f"{name}.npz"))
    return golden, seeded.state_dict(json.loads(str(golden.pop("shapes"))))


def close(ours, golden, tolerance=1e-5):
    scale = np.abs(golden).max()
    np.testing.assert_allclose(ours, golden, rtol=tolerance, atol=tolerance * scale)


def test_swin():
    golden, state = stored("swin")
    x = seeded.inputs("image", swin_reference.IMAGE)
    with jax.enable_x64(True):
        network = Swin(**swin_reference.SWIN, dtype=jnp.float64)
        x = x.astype(np.float64)
        like = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), x)
        params = swin.from_public(state, like)["params"]
        params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)

        def loss(params, x):
            outputs = network.apply({"params": params}, x, train=False)
            return sum((y**3).mean() for y in outputs), outputs

        (by_params, by_input), outputs = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)
    for i, output in enumerate(outputs):
        close(seeded.sample(output), golden[f"output {i}"])
    close(seeded.sample(by_input), golden["gradient by input"])
    norms = {
        "params/" + jax.tree_util.keystr(path, simple=True, separator="/"): np.linalg.norm(g)
        for path, g in jax.tree.leaves_with_path(jax.tree.map(np.ravel, by_params))
    }
    for key in state:
        rule, match = next(
            (r, m) for r in swin.AUTHORS if (m := re.fullmatch(r.pattern, key))
        )
        norm = norms.pop(match.expand(rule.target))
        np.testing.assert_allclose(norm, golden[f"gradient by {key}"], rtol=1e-5, atol=1e-12)
    assert not norms


def test_vggish():
    golden, state = stored("vggish")
    x = seeded.inputs("patches", swin_reference.PATCHES)
    for embedding in (False, True):
        network = Vggish(embedding=embedding)
        like = jax.eval_shape(lambda x, n=network: n.init(jax.random.key(0), x), x)
        output = jax.jit(network.apply)(vggish.from_public(state, like), x)
        if embedding:
            close(seeded.sample(output), golden["embedding"])
        else:
            close(seeded.sample(output), golden["features"])
