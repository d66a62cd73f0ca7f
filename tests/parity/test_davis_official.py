"""Compares the DAVIS metric with the official evaluation, live; see docs/parity.md."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")  # references.py imports it
pytest.importorskip("skimage")

import references

from vseg_jax.metrics.davis import DavisMetric

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import davis as golden

pytestmark = pytest.mark.parity
SEED = 20261121


@pytest.fixture(scope="module")
def official():
    folder = references.folder()
    if folder is None or not (folder / "davis2017-evaluation").is_dir():
        pytest.skip("VSEG_REFERENCES holds no davis2017-evaluation (docs/parity.md)")
    return golden.official(folder)


def compare(official, cases):
    metric = DavisMetric(official_overflow=True)
    for name, (truth, prediction) in cases.items():
        metric.add(name, prediction, truth)
    result, predictions = metric.result(), official(cases)
    for letter in "JF":
        for name in cases:
            ours = [[found[letter][k] for k in golden.KEYS]
                    for found in result["sequences"][name].values()]
            np.testing.assert_allclose(ours, predictions[letter][name], atol=1e-6, err_msg=name)


def test_synthetic_cases(official):
    compare(official, golden.cases())


@pytest.mark.parametrize("size", [(480, 854), (270, 480), (1080, 1920)])
def test_sizes_of_videos(official, size):
    y, x = np.mgrid[:size[0], :size[1]]
    scale = size[0] / 20
    small = golden.discs(5, 3, seed=SEED)
    rows, columns = (y / scale).astype(int), np.minimum(x / scale, 25).astype(int)
    truth = small[:, rows, columns]
    prediction = np.roll(golden.degraded(small, SEED)[:, rows, columns], int(scale / 5), (1, 2))
    compare(official, {"video": (truth, prediction)})


@pytest.mark.parametrize("frames", [3, 4, 257, 258, 259, 600, 1100])
def test_lengths(official, frames):
    if frames == 258:
        pytest.skip("256 frames count: the official sum 255 + 1 overflows under NumPy 2 alone")
    truth = golden.discs(frames, 1, size=(8, 9), seed=SEED + frames)
    truth[0, 0, 0] = 1
    compare(official, {"video": (truth, golden.degraded(truth, frames))})
