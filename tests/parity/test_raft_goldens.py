"""Compares RAFT with stored results of its public code, written by tests/goldens/raft.py."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import raft_example
import seeded

from vseg_jax.backbones.raft import Raft
from vseg_jax.weights.raft import from_public, shapes

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.mark.parametrize("variant", ["small", "large"])
def test_flow_of_every_iteration(variant):
    """Compares the whole network in its published size, on frames of odd sizes."""
    golden = np.load(GOLDENS / f"raft_{variant}.npz")
    state = raft_example.state_dict(json.loads(str(golden["shapes"])))
    network = Raft(variant)
    variables = from_public(state, shapes(network))
    flows = jax.jit(
        lambda v, *frames: network.apply(v, *frames, raft_example.ITERATIONS, every=True)
    )(variables, *raft_example.frames())
    assert flows.shape == (raft_example.ITERATIONS, 1, 130, 139, 2)
    for ours, theirs in zip(flows, golden["flows"], strict=True):
        np.testing.assert_allclose(seeded.sample(ours), theirs, atol=1e-4 * np.abs(theirs).max())
