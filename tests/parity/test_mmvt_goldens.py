"""Compares mmvt with stored results of its public PyTorch code.

tests/goldens/mmvt.py wrote them and tells how; torch is not needed here.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import mmvt_public
import numpy as np
import seeded

from vseg_jax.models.mmvt import Mmvt
from vseg_jax.models.mmvt.objective import losses

GOLDEN = Path(__file__).parents[1] / "goldens/mmvt.npz"


def test_all_parts_after_the_encoders():
    """Compares pyramid pooling, transformer, decoder, alignment and the four losses."""
    golden = dict(np.load(GOLDEN))
    model = Mmvt(mmvt_public.SMALL)
    variables = mmvt_public.variables(model.config, json.loads(str(golden.pop("shapes"))))
    *inputs, mask = mmvt_public.features(model.config)

    @jax.jit
    def run(variables, mask, *inputs):
        output = mmvt_public.predict_from_maps(model, variables, *inputs, train=False)
        terms, _ = losses(model.config, output, mask, jnp.ones_like(mask))
        return output, terms

    ours = mmvt_public.summary(*run(variables, mask.astype(np.float32), *inputs))
    assert set(ours) == set(golden)
    for name, expected in golden.items():
        mine = seeded.sample(ours[name]) if ours[name].ndim else ours[name]
        scale = np.abs(expected).max()
        print(f"{name}: {np.abs(mine - expected).max() / scale:.1e}")
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
