"""BERT-base on 8 sentences of 20 tokens, compared with the PyTorch BertModel of transformers.

    python -m benchmarks.bert [--output rows.json]

Random weights, no dropout, float32. The peer uses its fastest attention (`sdpa`).
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from benchmarks import harness
from vseg_jax.text.bert import Bert, BertConfig

BATCH, LENGTH = 8, 20


def main() -> None:
    args = harness.arguments(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    random = np.random.default_rng(0)
    valid = np.arange(LENGTH) < random.integers(5, LENGTH + 1, (BATCH, 1))
    tokens = random.integers(1000, 30000, valid.shape, dtype=np.int32) * valid
    ours, peer = functions(tokens, valid), peer_functions(tokens, valid)
    rows = [
        harness.compare(f"BERT-base {BATCH}x{LENGTH}, {what}", ours[what], peer[what], args.repeats)
        for what in ours
    ]
    harness.report(rows, args.output)


def functions(tokens, valid):
    """Returns our forward pass, and the gradient of a sum of squares by all parameters."""
    network = Bert(BertConfig())
    tokens, valid = jnp.asarray(tokens), jnp.asarray(valid)
    variables = jax.jit(lambda: network.init(jax.random.key(0), tokens, valid, train=False))()
    forward = jax.jit(lambda v: network.apply(v, tokens, valid, train=False))

    @jax.jit
    @jax.grad
    def backward(variables):
        words, pooled = network.apply(variables, tokens, valid, train=False)
        return (words**2).sum() + (pooled**2).sum()

    return {
        "forward": lambda: forward(variables),
        "with backward": lambda: backward(variables),
    }


def peer_functions(tokens, valid):
    """Returns the same functions of the model of transformers."""
    network = transformers.BertModel(transformers.BertConfig(attn_implementation="sdpa")).eval()
    inputs = {
        "input_ids": torch.from_numpy(tokens).long(),
        "attention_mask": torch.from_numpy(valid).long(),
    }
    keep = inputs["attention_mask"][..., None]

    def forward():
        with torch.no_grad():
            return network(**inputs)

    def backward():
        network.zero_grad()
        out = network(**inputs)
        loss = (out.last_hidden_state * keep).square().sum() + out.pooler_output.square().sum()
        loss.backward()

    return {"forward": forward, "with backward": backward}


if __name__ == "__main__":
    main()
