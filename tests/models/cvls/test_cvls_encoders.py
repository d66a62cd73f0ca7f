"""Encoders and decoder against their descriptions, written in NumPy over their parameters."""

import jax.numpy as jnp
import numpy as np
from tiny_cvls import SMALL
from tiny_models import given_modules, random_params

from vseg_jax.backbones.i3d import I3D
from vseg_jax.models.cvls.config import CvlsConfig
from vseg_jax.models.cvls.encoders import LanguageEncoder, SelfGuidedAttention, VisualEncoder
from vseg_jax.models.cvls.network import Decoder
from vseg_jax.text.recurrent import Lstm

RANDOM = np.random.default_rng(0)
CONFIG = CvlsConfig(**SMALL)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def test_sentence_by_hand():
    tokens = jnp.asarray([[3, 7, 2, 0, 0], [5, 5, 19, 4, 1]])
    encoder, valid = LanguageEncoder(CONFIG), tokens > 0
    params = random_params(encoder, tokens, valid)
    sentence = encoder.apply({"params": params}, tokens, valid)
    words = params["embedding"]["words"]["embedding"][tokens]
    states, _ = Lstm(CONFIG.lstm_width).apply({"params": params["lstm"]}, words, valid)
    pooled = SelfGuidedAttention(CONFIG).apply({"params": params["attention"]}, states, valid)
    wanted = pooled @ params["project"]["kernel"] + params["project"]["bias"]
    np.testing.assert_allclose(sentence, wanted, rtol=1e-4, atol=1e-5)


def test_decoder_by_hand():
    """On a map of one cell only the center of a 3x3 kernel acts."""
    decoder, features, sentence = Decoder(CONFIG), normal(2, 1, 1, 1, 8), normal(2, 8)
    params = random_params(decoder, features, sentence)
    x = np.concatenate([features[:, 0, 0, 0], sentence], -1)
    x = np.maximum(x @ params["fuse"]["kernel"] + params["fuse"]["bias"], 0)
    for i in (1, 2, 3):
        layer = params[f"conv_{i}"]
        x = np.maximum(x @ layer["kernel"][1, 1] + layer["bias"], 0)
    wanted = x @ params["logit"]["kernel"] + params["logit"]["bias"]
    assert np.abs(wanted).max() > 0.1
    out = decoder.apply({"params": params}, features, sentence)
    np.testing.assert_allclose(out[:, 0, 0, 0], wanted, rtol=1e-4, atol=1e-5)


def test_i3d_reads_colors_around_zero_and_frames_get_the_slice_that_contains_them():
    frames = jnp.asarray(RANDOM.integers(0, 256, (2, 8, 4, 4, 3), np.uint8))
    stages = tuple(normal(2, n, 1, 1, 3) for n in (8, 8, 4, 2, 1))   # the first is not used
    encoder = VisualEncoder(CvlsConfig(**{**SMALL, "backbone": "i3d"}))
    with given_modules(I3D, stages) as seen:
        levels = encoder.apply({}, frames, jnp.asarray([[0, 5], [7, 2]]), train=False)
    np.testing.assert_allclose(seen[0], np.asarray(frames) / 127.5 - 1, atol=1e-6)
    slices = ([[0, 5], [7, 2]], [[0, 2], [3, 1]], [[0, 1], [1, 0]], [[0, 0], [0, 0]])
    for got, stage, index in zip(levels, stages[1:], slices, strict=True):
        wanted = np.stack([stage[sample, index[sample]] for sample in (0, 1)])
        np.testing.assert_array_equal(got, wanted)
