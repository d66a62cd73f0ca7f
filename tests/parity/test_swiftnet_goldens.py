"""Compares STM and SwiftNet with stored results of their public PyTorch code.

tests/goldens/swiftnet.py wrote them and tells how; torch is not needed here.
"""

import json
from pathlib import Path

import jax
import numpy as np
import propagation
import pytest
import seeded

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.mark.parametrize("repository", ["STM", "SwiftNet"])
def test_memorize_a_frame_and_read_the_next(repository):
    """Compares all maps, of whole networks in their published sizes."""
    golden = dict(np.load(GOLDENS / f"{repository.lower()}.npz"))
    shapes = json.loads(str(golden.pop("shapes")))
    variables = propagation.variables(repository, shapes)
    network = propagation.OURS[repository]
    example = propagation.prepared(propagation.example(32, 48), np.float32)
    _, maps, _ = jax.jit(lambda v, *x: propagation.remember_and_read(network, v, *x))(
        variables, *example
    )
    assert set(maps) == set(golden)
    for name, expected in golden.items():
        np.testing.assert_allclose(
            seeded.sample(maps[name]), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(),
            err_msg=name,
        )
