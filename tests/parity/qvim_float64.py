"""Compares the gradients of qvim's training loss with the reference in float64; prints JSON.

test_qvim_reference.py runs this in its own process, because here every "float32" means float64:
whatever the config says, both sides keep some sums and tables in float32, and rounding there
switches ReLUs on or off.
"""

# ruff: noqa: E402
import dataclasses
import json
from types import SimpleNamespace

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import torch

jnp.float32 = jnp.float64  # before flax and this package read their defaults
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double

import test_qvim_reference as comparison

from vseg_jax.layers import resize

resize.np = SimpleNamespace(**{**vars(np), "float32": np.float64})  # tables of weights


def main() -> None:
    """Prints {when: (error of the loss, {parameter: error of its gradient})}."""
    model, *rest = comparison.build(comparison.CONFIG)
    double = dataclasses.replace(comparison.CONFIG, dtype="float64")
    both = (type(model)(double), *rest)
    our_loss, result = comparison.compiled(both), {}
    for qfa in (False, True):
        ours, theirs, errors, _ = comparison.one_step(both, our_loss, qfa)
        loss = float(comparison.error(ours, theirs))
        result["with QFA" if qfa else "before QFA"] = loss, {k: float(v) for k, v in errors.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
