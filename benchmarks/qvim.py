"""The qvim network and its training step, compared with a PyTorch port of equal weights.

    python -m benchmarks.qvim [--size 320] [--batch 2] [--output rows.json]

Full width: I3D, BERT-base, 256 channels. "forward" predicts; "training step" is the loss with QFA,
AM-AdaIN and the constraint (queue and momentum head included), its gradient, and Adam. Both sides
print the loss of their first step, which shows that they compute the same. The port is
qvim_torch.py.
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import harness, qvim_torch
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.model import Qvim
from vseg_jax.text.bert import BertConfig
from vseg_jax.training import optimizer as optimizer
from vseg_jax.training import settings, state, step

FRAMES, LENGTH = 8, 20


def main() -> None:
    parser = harness.arguments(__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=2, help="at least 2")
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    # No dropout and no random alpha, so that the losses can be compared; the cost is the same.
    bert = BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pooler=False)
    config = QvimConfig(bert=bert, am_adain_alpha_max=0.0, qfa_schedule="from_start")
    batch = make_batch(args.batch, args.size)
    model, port = Qvim(config), qvim_torch.Qvim(config)
    arrays = {k: jnp.asarray(v) for k, v in batch.items()}
    variables = jax.jit(model.init)(jax.random.key(0), arrays)
    qvim_torch.copy(port, variables)
    tensors = {k: torch.from_numpy(v) for k, v in batch.items()}
    ours, peer = forward(model, variables, arrays), peer_forward(port, tensors)
    name = f"qvim {args.batch}x{FRAMES}x{args.size}x{args.size}"
    rows = [harness.compare(f"{name}, forward", ours, peer, args.repeats)]
    ours, peer = training(model, variables, arrays), peer_training(port, tensors, config)
    losses, peer_losses = [], []
    rows.append(harness.compare(
        f"{name}, training step", lambda: losses.append(ours()) or losses[-1],
        lambda: peer_losses.append(peer()), args.repeats,
    ))
    print(f"loss of the first step: ours {losses[0]:.4f}, peer {peer_losses[0]:.4f}")
    harness.report(rows, args.output)


def make_batch(count: int, size: int) -> dict[str, np.ndarray]:
    """Returns noise, boxes and random tokens."""
    random = np.random.default_rng(0)
    masks = np.zeros((count, FRAMES, size, size), np.uint8)
    masks[:, :, size // 4: size // 2, size // 8: size // 2] = 1
    valid = np.arange(LENGTH) < random.integers(5, LENGTH + 1, (count, 1))
    return {
        "frames": random.integers(0, 256, (count, FRAMES, size, size, 3), dtype=np.uint8),
        "masks": masks,
        "masks_valid": np.ones((count, FRAMES), bool),
        "target": np.full(count, 4, np.int32),
        "object_id": np.ones(count, np.int32),
        "tokens": random.integers(1000, 30000, valid.shape, dtype=np.int32) * valid,
        "tokens_valid": valid,
        "video": np.arange(count, dtype=np.int32),
        "sample": np.arange(count, dtype=np.int32),
        "valid": np.ones(count, bool),
        "geometry": np.ones((count, 4), np.float32),
    }


def forward(model, variables, batch):
    predict = jax.jit(model.predict)
    return lambda: predict(variables, batch)


def peer_forward(port, batch):
    def run():
        port.eval()
        with torch.no_grad():
            return port(batch["frames"], batch["tokens"], batch["tokens_valid"])

    return run


def training(model, variables, batch):
    """Returns a function that runs one training step of the library and keeps the new state."""
    config = settings.TrainConfig(steps=1000, batch_size=len(batch["video"]))
    adam = optimizer.make(config)
    run_step = jax.jit(step.make(model, adam, config), donate_argnums=0)
    held = [state.create(jax.tree.map(jnp.copy, variables), adam, config)]

    def run():
        held[0], metrics = run_step(held[0], batch)
        return metrics["loss"][0]

    return run


def peer_training(port, batch, config):
    adam = torch.optim.Adam([p for p in port.parameters() if p.requires_grad], lr=1e-4)
    alpha = torch.zeros(len(batch["video"]))

    def run():
        port.train()
        adam.zero_grad()
        loss = port.loss(batch, config.qfa_beta_max, alpha)
        loss.backward()
        adam.step()
        return loss.detach()

    return run


if __name__ == "__main__":
    main()
