"""The decoder against its equations, on maps so small that NumPy can follow."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import drawn_variables
from tiny_qvim import SMALL

from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.decoder import Decoder

RANDOM = np.random.default_rng(0)


def drawn(decoder, features, size):
    """Random variables of a decoder."""
    init = functools.partial(decoder.init, size=size, train=False)
    return drawn_variables(types.SimpleNamespace(init=init), features)


def relu(x):
    return np.maximum(x, 0)


def conv(params, x):
    """A 3x3 convolution of a map of one cell: only the kernel's center acts."""
    return x @ params["kernel"][1, 1] + params.get("bias", 0)


@pytest.mark.parametrize("fuse", ["finest", "conv"])
def test_responses_by_hand(fuse):
    decoder = Decoder(QvimConfig(**{**SMALL, "fuse": fuse, "decoder_channels": (2, 3, 4, 5, 6)}))
    features = tuple(jnp.asarray(RANDOM.normal(size=(2, 1, 1, 8)), jnp.float32) for _ in range(5))
    variables = drawn(decoder, features, (4, 4))
    logits, responses = decoder.apply(variables, features, (4, 4), train=False)

    params, running, wanted = variables["params"], variables["batch_stats"], []
    x = features[4][:, 0, 0]
    for k in (5, 4, 3, 2, 1):
        if k < 5:
            x = conv(params[f"conv_{k}"], np.concatenate([x, features[k - 1][:, 0, 0]], -1))
            norm, stored = params[f"norm_{k}"], running[f"norm_{k}"]
            x = (x - stored["mean"]) / np.sqrt(stored["var"] + 1e-5) * norm["scale"] + norm["bias"]
            x = relu(x)
        head = relu(conv(params[f"head_{k}_b"], relu(conv(params[f"head_{k}_a"], x))))
        last = params[f"head_{k}_c"]
        wanted.insert(0, (head @ last["kernel"] + last["bias"])[:, 0])
    if fuse == "conv":
        wanted.append(conv(params["fuse"], np.stack(wanted, -1))[:, 0])
    assert len(responses) == len(wanted)
    for response, value in zip(responses, wanted, strict=True):
        np.testing.assert_allclose(response[:, 0, 0], value, rtol=1e-4, atol=1e-5)
    predicted = wanted[-1] if fuse == "conv" else wanted[0]
    np.testing.assert_allclose(logits, np.broadcast_to(predicted[:, None, None], (2, 4, 4)),
                               rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("align", "wanted"), [(True, [0, 1 / 3, 2 / 3, 1]), (False, [0, 0.25, 0.75, 1])]
)
def test_upsampling_of_coarser_features(align, wanted):
    """Every layer passes its first channel on, so scale 1 shows how scale 2 is upsampled."""
    widths = dict(channels=1, decoder_channels=(1,) * 5)
    decoder = Decoder(QvimConfig(**{**SMALL, **widths, "align_corners": align}))
    features = (jnp.zeros((1, 1, 4, 1)), *[jnp.zeros((1, 1, 2, 1))] * 3,
                jnp.asarray([[[[0.0], [1.0]]]]))

    def passing(path, leaf):
        if path[-1].key in ("scale", "var"):
            return jnp.ones_like(leaf)
        if path[-1].key != "kernel":
            return jnp.zeros_like(leaf)
        return jnp.zeros_like(leaf).at[(*[n // 2 for n in leaf.shape[:-2]], 0, 0)].set(1)

    variables = jax.tree_util.tree_map_with_path(passing, drawn(decoder, features, (1, 8)))
    logits, responses = decoder.apply(variables, features, (1, 8), train=False)
    np.testing.assert_allclose(responses[0][0, 0], wanted, atol=1e-4)
    # The prediction is always resized by pixel centers.
    centers = (np.arange(8) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(logits[0, 0], np.interp(centers, range(4), wanted), atol=1e-4)
