"""The gradients of qvim's training loss beside its PyTorch twin, in float64; errors as JSON.

test_qvim_twin.py runs this in a process of its own, because here "float32" means float64 wherever
it is written: whatever the config says, both sides keep some sums and tables in float32, and
rounding there tips rectifiers over.
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

jnp.float32 = jnp.float64  # before flax and the library read their defaults
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double

import test_qvim_twin as twins

from vseg_jax.layers import resize

resize.np = SimpleNamespace(**{**vars(np), "float32": np.float64})  # tables of weights


def main() -> None:
    """Prints {when: (error of the loss, {parameter: error of its gradient})}."""
    model, *rest = twins.build(twins.CONFIG)
    double = dataclasses.replace(twins.CONFIG, dtype="float64")
    both = (type(model)(double), *rest)
    our_loss, result = twins.compiled(both), {}
    for qfa in (False, True):
        ours, theirs, errors, _ = twins.one_step(both, our_loss, qfa)
        loss = float(twins.error(ours, theirs))
        result["with QFA" if qfa else "before QFA"] = loss, {k: float(v) for k, v in errors.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
