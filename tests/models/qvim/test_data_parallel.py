"""Interactions between the samples of a batch do not depend on its distribution over devices."""

import os
import subprocess
import sys

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from vseg_jax.models.qvim import constraint
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.interaction import pooling_weights, query_scores
from vseg_jax.models.qvim.network import Output
from vseg_jax.models.qvim.perturbations import perturbations

config = QvimConfig(channels=4, contrast_dim=4, queue=11, total_steps=10)
random = np.random.default_rng(0)
normal = lambda *shape: random.normal(size=shape).astype(np.float32)
data = {"y": 3 * normal(8, 4, 4, 4), "q": normal(8, 4), "attention": normal(8, 16, 3),
        "words": random.random((8, 3)) < 0.7,
        "video": np.int32([0, 1, 2, 2, 3, 4, 5, 5]), "valid": np.arange(8) != 6}
heads, state = constraint.init(config, jax.random.key(0))

@jax.jit
def run(data):
    step = jnp.int32(9)
    perturb = perturbations(config, data, jax.random.key(1), step)
    weights = pooling_weights(query_scores(data["y"], data["q"]), "softmax")
    y = perturb.features(1, data["y"], weights, data["q"])
    words = perturb.attention(4, data["attention"], data["words"])
    output = Output(None, (), (y.mean((1, 2)),), (), (), (), data["q"], (), {})
    return y, words, constraint.loss(config, heads, state, data, output, step)

mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
spread = jax.device_put(data, NamedSharding(mesh, PartitionSpec("data")))
assert len(spread["y"].sharding.device_set) == 4
one, four = run(data), run(spread)
assert np.abs(one[0] - data["y"]).max() > 0.1
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, four)
"""


def test_four_devices_compute_the_same_as_one():
    environment = {
        **os.environ, "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
