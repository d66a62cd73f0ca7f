import numpy as np
import pytest

from vseg_jax.tools import figures


def test_principal_colors():
    maps = np.zeros((8, 4, 4))
    maps[:, :2] = 1                     # one direction of change: one color channel
    colors = figures.principal_colors(maps)
    assert colors.shape == (4, 4, 3) and colors.min() >= 0 and colors.max() <= 1
    assert abs(colors[0, 0, 0] - colors[3, 0, 0]) == pytest.approx(1)


def test_samples_are_spread_evenly():
    samples = [{"sample": k} for k in range(10)]
    taken = [batch["sample"].tolist() for batch in figures.batches(samples, 4)]
    assert taken == [[0], [3], [6], [9]]
    assert len(list(figures.batches(samples, 99))) == 10
