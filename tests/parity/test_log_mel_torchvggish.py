"""Compares log-mel patches with VGGish's public front end, live; see docs/parity.md."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import references

from vseg_jax.input_pipeline.audio import frame_patches, log_mel

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import log_mel as golden

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def official():
    folder = references.folder()
    if folder is None or not (folder / "torchvggish").is_dir():
        pytest.skip("VSEG_REFERENCES holds no torchvggish (docs/parity.md)")
    return golden.official(folder)


@pytest.mark.parametrize("count", [400, 559, 15600, 48000])
def test_audio_of_several_lengths(official, count):
    for seed in range(3):
        samples = golden.audio(seed, count) / 32768
        np.testing.assert_allclose(log_mel(samples), official(samples), atol=1e-5)


def test_the_patch_of_a_frame(official):
    samples = golden.audio(5, 32000) / 32768
    patch = frame_patches(samples, [11], 8.0)[0]
    np.testing.assert_allclose(patch, official(samples[24000 - 15600:24000]), atol=1e-5)
