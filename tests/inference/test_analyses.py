import numpy as np
import pytest

from vseg_jax.inference import analyses


def test_principal_colours():
    maps = np.zeros((8, 4, 4))
    maps[:, :2] = 1                     # one direction of change: one colour channel
    colours = analyses.principal_colours(maps)
    assert colours.shape == (4, 4, 3) and colours.min() >= 0 and colours.max() <= 1
    assert abs(colours[0, 0, 0] - colours[3, 0, 0]) == pytest.approx(1)


def test_samples_are_spread_evenly():
    samples = [{"sample": k} for k in range(10)]
    taken = [batch["sample"].tolist() for batch in analyses.batches(samples, 4)]
    assert taken == [[0], [3], [6], [9]]
    assert len(list(analyses.batches(samples, 99))) == 10
