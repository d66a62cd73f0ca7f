"""Compares rcf's transformer, FPN and heads with stored results of MaskFormer.

tests/goldens/maskformer.py wrote them and tells how; torch is not needed here.
"""

import json
from pathlib import Path

import jax
import maskformer_public
import numpy as np
import seeded

from vseg_jax.models.rcf.tokens import sine

GOLDEN = Path(__file__).parents[1] / "goldens/maskformer.npz"


def test_the_head_of_maskformer():
    golden = dict(np.load(GOLDEN))
    variables = maskformer_public.variables(json.loads(str(golden.pop("shapes"))))
    ours = jax.jit(maskformer_public.prediction)(variables, maskformer_public.maps())
    ours["positions"] = sine(5, 7, 64)
    assert set(ours) == set(golden)
    for name, expected in golden.items():
        mine, scale = seeded.sample(ours[name]), np.abs(expected).max()
        print(f"{name}: {np.abs(mine - expected).max() / scale:.1e}")
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
