"""The text-guided networks mmvt and cvls and their training steps, compared with PyTorch.

    PYTHONPATH=.:tests/parity python -m benchmarks.text [--references DIR] [--output rows.json]

mmvt at full width (ResNet-101, ResNet-34, BERT-base, clips of three frames) is compared with its
public code, for which DIR holds the reference repositories in the layout of the parity page of the
docs; without DIR it has no peer. cvls, with ResNet-50 on single frames, is compared with a PyTorch
port (cvls_torch.py). Both sides have equal weights and no dropout. "training step" is the loss, its
gradient, and Adam. Both sides print the loss of their first step, which shows that they compute the
same. The public code encodes an expression once for every frame of its clip, this library once per
clip. With frames of 32 pixels, batch statistics are over very few values, and cvls' losses differ
in the third digit.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mmvt_public
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import cvls_torch, harness, qvim
from vseg_jax.models.cvls import Cvls, CvlsConfig
from vseg_jax.models.mmvt import Mmvt, MmvtConfig
from vseg_jax.weights import mmvt

SMALL_CVLS = CvlsConfig(
    resnet_width=4, vocabulary=50, word_width=12, lstm_width=10, channels=16, projection_hidden=16,
    projection_dim=8,
)


class Peer(NamedTuple):
    network: nn.Module
    predict: Callable[[], Tensor]
    loss: Callable[[], Tensor]


def main() -> None:
    parser = harness.arguments(__doc__.splitlines()[0])
    parser.add_argument("--references")
    parser.add_argument("--only", choices=("mmvt", "cvls"), help="one of the two")
    parser.add_argument("--size", type=int, default=160, help="side of the frames, 16 divides it")
    parser.add_argument("--clips", type=int, default=1, help="of three frames, a batch of mmvt")
    parser.add_argument("--frames", type=int, default=4, help="a batch of cvls")
    parser.add_argument("--small", action="store_true", help="1/16 of the width, to try this out")
    parser.set_defaults(repeats=5)
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    parts = {"mmvt": (run_mmvt, args.clips), "cvls": (run_cvls, args.frames)}
    done = [(run(args), n) for name, (run, n) in parts.items() if args.only in (None, name)]
    harness.report([row for rows, _ in done for row in rows], args.output)
    for rows, clips in done:
        for row in rows:
            ours, peer = (
                clips * 1e3 / ms if ms else float("nan") for ms in (row.ours_ms, row.peer_ms)
            )
            print(f"{row.name}: {ours:.2f} clips/s, peer {peer:.2f}")


def run_mmvt(args: argparse.Namespace) -> list[harness.Row]:
    config = dataclasses.replace(
        mmvt_public.SMALL if args.small else MmvtConfig(**mmvt_public.COMPAT),
        dropout=0.0, aspp_dropout=0.0,
    )
    config = dataclasses.replace(config, bert=dataclasses.replace(
        config.bert, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ))
    model = Mmvt(config)
    batch = make_batch(args.clips, mmvt_public.FRAMES, args.size, model.vocabulary)
    arrays = jax.tree.map(jnp.asarray, batch)
    if args.references is None:
        variables, peer = jax.jit(model.init)(jax.random.key(0), arrays), None
    else:
        peer = public(args, batch)
        state = {k: v.numpy() for k, v in peer.network.state_dict().items()}
        like = jax.eval_shape(model.init, jax.random.key(0), arrays)
        variables = jax.tree.map(jnp.asarray, mmvt.from_public(state, like))
    name = f"mmvt {args.clips}x{mmvt_public.FRAMES}x{args.size}x{args.size}"
    return two_rows(name, model, variables, arrays, peer, args.repeats)


def public(args: argparse.Namespace, batch: dict[str, np.ndarray]) -> Peer:
    """The public code on the same batch, whose target is each clip's last frame."""
    network, computer = mmvt_public.load(args.references, small=args.small, side=args.size)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    inputs = [
        *(mmvt_public.pictures(batch[k]) for k in ("frames", "flow")),
        *(mmvt_public.every_frame(batch[k]) for k in ("tokens", "tokens_valid")),
    ]
    truth = torch.from_numpy(batch["masks"][:, -1:] == 1).long()

    def loss() -> Tensor:
        vision, flow, both, logits, mask = network(*inputs, truth)
        out = {"logits": logits, "mask": mask, "cls_gt": truth, "gt": truth, "vision_map": vision,
               "flow_map": flow, "vision_flow_map": both}
        return computer.compute(out, 0)["total_loss"]

    return Peer(network, lambda: network.inference(*inputs), loss)


def run_cvls(args: argparse.Namespace) -> list[harness.Row]:
    model = Cvls(SMALL_CVLS if args.small else CvlsConfig())
    batch = make_batch(args.frames, 1, args.size, model.vocabulary)
    arrays = jax.tree.map(jnp.asarray, batch)
    variables = jax.jit(model.init)(jax.random.key(0), arrays)
    port = cvls_torch.Cvls(model.config)
    cvls_torch.copy(port, variables)
    tensors = {k: torch.from_numpy(v) for k, v in batch.items()}
    inputs = [tensors[k] for k in ("frames", "tokens", "tokens_valid")]
    peer = Peer(port, lambda: port(*inputs)[0], lambda: port.loss(tensors))
    name = f"cvls {args.frames}x1x{args.size}x{args.size}"
    return two_rows(name, model, variables, arrays, peer, args.repeats)


def make_batch(count: int, frames: int, size: int, vocabulary: int) -> dict[str, np.ndarray]:
    """qvim's noise, box and random tokens, with a second box, and noise for the flow."""
    batch = qvim.make_batch(count, size)
    batch["masks"][:, :, size // 2 :, size // 2 :] = 2
    batch |= {k: np.ascontiguousarray(batch[k][:, :frames])
              for k in ("frames", "masks", "masks_valid")}
    batch["tokens"] %= vocabulary
    batch["target"][:] = frames - 1
    batch["flow"] = batch["frames"][:, ::-1].copy()
    return batch


def two_rows(name, model, variables, batch, peer: Peer | None, repeats: int) -> list[harness.Row]:
    """Forward and training step."""

    def predict() -> None:
        peer.network.eval()
        with torch.no_grad():
            peer.predict()

    ours = qvim.forward(model, variables, batch)
    rows = [harness.compare(f"{name}, forward", ours, predict if peer else None, repeats)]
    ours = qvim.training(model, variables, batch)
    losses, peer_losses = [], []
    train = training(peer) if peer else None
    rows.append(harness.compare(
        f"{name}, training step", lambda: losses.append(ours()) or losses[-1],
        (lambda: peer_losses.append(train())) if peer else None, repeats,
    ))
    theirs = f"{peer_losses[0]:.4f}" if peer else "-"
    print(f"{name}, loss of the first step: ours {losses[0]:.4f}, peer {theirs}", flush=True)
    return rows


def training(peer: Peer) -> Callable[[], Tensor]:
    adam = torch.optim.Adam(peer.network.parameters(), lr=1e-4)

    def run() -> Tensor:
        peer.network.train()
        adam.zero_grad()
        loss = peer.loss()
        loss.backward()
        adam.step()
        return loss.detach()

    return run


if __name__ == "__main__":
    main()
