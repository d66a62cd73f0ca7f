"""Compares qvim and its training objective with a reference implementation in PyTorch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.model import Qvim
from vseg_jax.text.bert import BertConfig

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from benchmarks import qvim_torch  # noqa: E402

pytestmark = pytest.mark.parity

CONFIG = QvimConfig(
    i3d_width=0.25,
    bert=BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=20, initializer_range=0.3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pooler=False,
    ),
    channels=16,
    sa_kv_max=5,
    decoder_channels=(16, 12, 16, 20, 16),
    queue=8,
    contrast_dim=8,
    pos_weight=1.5,
    qfa_start=0.0,
    total_steps=11,
    backbone_norm="batch",
)
STEP = 6  # beta = 0.3
SIZE, FRAMES, LENGTH = 64, 8, 7


def make_batch():
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (2, FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
    masks = np.zeros((2, FRAMES, SIZE, SIZE), np.uint8)
    masks[:, :, 10:45, 5:30] = 1
    masks[:, :, 25:60, 34:62] = 2
    masks[1, :, :, -13:] = 255
    valid = np.arange(LENGTH) < np.asarray([[LENGTH], [4]])
    return {
        "frames": frames,
        "masks": masks,
        "masks_valid": np.ones((2, FRAMES), bool),
        "target": np.asarray([4, 4], np.int32),
        "object_id": np.asarray([1, 2], np.int32),
        "tokens": random.integers(1, 50, valid.shape, dtype=np.int32) * valid,
        "tokens_valid": valid,
        "video": np.asarray([3, 5], np.int32),
        "sample": np.asarray([0, 1], np.int32),
        "valid": np.ones(2, bool),
        "geometry": np.ones((2, 4), np.float32),
    }


@pytest.fixture(scope="module")
def both():
    return build(CONFIG)


def build(config):
    """Returns (our model, its variables, batch, reference, batch as tensors)."""
    batch = make_batch()
    arrays = {k: jnp.asarray(v) for k, v in batch.items()}
    model = Qvim(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), arrays)
    random = np.random.default_rng(1)

    def fill(path, leaf):  # no zero biases or unit scales, which would hide errors
        if leaf.dtype == jnp.int32:
            return jnp.zeros(leaf.shape, jnp.int32)
        values = random.standard_normal(leaf.shape)
        if path[-1].key == "kernel":
            values *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif path[-1].key == "scale":
            values = 1 + 0.1 * values
        elif path[-1].key == "var":
            values = 1 + np.abs(values)
        elif path[-1].key == "queue":
            values /= np.linalg.norm(values, axis=-1, keepdims=True)
        else:
            values *= 0.2
        return jnp.asarray(values, leaf.dtype)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    variables["moco"]["videos"] = jnp.asarray([3, 5, -1, -1, -1, 3, -1, -1], jnp.int32)
    reference = qvim_torch.Qvim(CONFIG)
    return model, variables, arrays, reference, {k: torch.from_numpy(v) for k, v in batch.items()}


@pytest.fixture(scope="module")
def our_loss(both):
    return compiled(both)


def compiled(both):
    """Returns the jitted (params, key, step) -> gradient, (updates, metrics)."""
    model, variables, arrays, _, _ = both

    def loss(params, key, step):
        value, updates, metrics = model.loss({**variables, "params": params}, arrays, key, step)
        return value, (updates, metrics)

    return jax.jit(jax.grad(loss, has_aux=True))


def error(ours, theirs):
    """Returns the norm of the difference over the norm."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return np.linalg.norm(ours - theirs) / (np.linalg.norm(theirs) + 1e-30)


def close(ours, theirs, name, relative=1e-4):
    assert error(ours, theirs) < relative, f"{name}: relative error {error(ours, theirs):.1e}"


def test_prediction(both):
    model, variables, arrays, reference, tensors = both
    qvim_torch.copy(reference, variables)
    ours = jax.jit(model.predict)(variables, arrays)
    with torch.no_grad():
        logits, *_ = reference.eval()(tensors["frames"], tensors["tokens"], tensors["tokens_valid"])
    close(ours.logits[:, 0], logits, "logits")


def one_step(both, our_loss, qfa):
    """Returns (our loss, the reference's, error of each gradient, our updates)."""
    _, variables, _, reference, tensors = both
    qvim_torch.copy(reference, variables)
    reference.pointer = 0
    reference.train().zero_grad()
    key, step = jax.random.key(7), jnp.asarray(STEP if qfa else -1)
    gradient, (updates, metrics) = our_loss(variables["params"], key, step)
    _, adain_key = jax.random.split(jax.random.split(key)[1])  # as perturbations.py draws it
    alpha = jax.random.uniform(jax.random.split(adain_key)[1], (2,), maxval=0.5)
    theirs = reference.loss(tensors, 0.3 if qfa else None, torch.from_numpy(np.array(alpha)))
    theirs.backward()
    total, count = metrics["loss"]
    gradients = qvim_torch.state_dict(reference, {"params": gradient})
    errors = {
        name: error(gradients[name], parameter.grad)
        for name, parameter in reference.named_parameters()
        # The gradient of a key's bias is zero except for rounding.
        if not name.startswith("momentum") and not name.endswith("key.bias")
    }
    return total / count, theirs.detach(), errors, updates


@pytest.mark.parametrize("qfa", [False, True], ids=["before QFA", "with QFA"])
def test_loss_gradients_and_state(both, our_loss, qfa):
    ours, theirs, errors, updates = one_step(both, our_loss, qfa)
    reference = both[3]
    close(ours, theirs, "loss", 1e-5)
    # Rounding can switch a ReLU on or off, which gives or takes the gradient of one of a channel's
    # few values and changes that of the layers before: the reference in float32 differs as much
    # from itself in float64. With float64 throughout, below, this does not happen.
    worst = max(errors, key=errors.get)
    assert errors[worst] < 0.05, f"gradient of {worst}: relative error {errors[worst]:.1e}"
    assert np.median(list(errors.values())) < 5e-3
    text = [v for name, v in errors.items() if name.startswith(("text", "contrast"))]
    assert max(text) < 1e-3
    after = qvim_torch.state_dict(reference, {"batch_stats": updates["batch_stats"]})
    for name, value in after.items():
        close(value, reference.state_dict()[name], name)
    close(updates["moco"]["queue"], reference.queue, "queue")
    np.testing.assert_array_equal(updates["moco"]["videos"], reference.videos)
    close(updates["moco"]["momentum"]["visual"]["out"]["kernel"],
          reference.momentum.out.weight.T, "momentum encoder")


def test_all_gradients_in_float64():
    """Runs in its own process; qvim_float64.py explains why."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, here / "qvim_float64.py"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}"},
    )
    assert done.returncode == 0, done.stderr
    for name, (loss, errors) in json.loads(done.stdout.splitlines()[-1]).items():
        worst = max(errors, key=errors.get)
        print(f"\nqvim, {name}: loss {loss:.1e}, the worst of {len(errors)} gradients "
              f"{errors[worst]:.1e} ({worst})")
        assert loss < 1e-9
        assert errors[worst] < 1e-6, {k: v for k, v in errors.items() if v >= 1e-6}
