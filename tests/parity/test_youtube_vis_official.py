"""Compares the YouTube-VIS metric with the official evaluation, live; see docs/parity.md."""

import json
import math
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")  # references.py imports it
pytest.importorskip("pycocotools")
pytest.importorskip("matplotlib")

import references

from vseg_jax.metrics.youtube_vis import score_files

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import youtube_vis as golden

pytestmark = pytest.mark.parity
SEED = 20261121


@pytest.fixture(scope="module")
def official():
    folder = references.folder()
    if folder is None or not (folder / "cocoapi").is_dir():
        pytest.skip("VSEG_REFERENCES holds no cocoapi (docs/parity.md)")
    return golden.official(folder)


def compare(official, truth, predictions, tmp_path):
    for name, value in (("truth", truth), ("results", predictions)):
        (tmp_path / name).write_text(json.dumps(value))
    ours = score_files(tmp_path / "truth", tmp_path / "results")
    for key, value in official(truth, predictions).items():
        assert ours[key] == pytest.approx(math.nan if value == -1 else value, abs=1e-6,
                                          nan_ok=True), key


def test_synthetic_cases(official, tmp_path):
    for truth, predictions in golden.cases().values():
        compare(official, truth, predictions, tmp_path)


@pytest.mark.parametrize("seed", range(SEED, SEED + 8))
def test_random_sets(official, seed, tmp_path):
    truth, predictions = golden.draw_set(
        seed, videos=15, missing=0.3, crowds=0.2, digits=1 + seed % 2, sides=(30, 280), extra=5)
    compare(official, truth, predictions, tmp_path)
