"""Compares the methods that qvim is compared with to stored results of their public code.

tests/goldens/compared.py wrote them and tells how; torch is not needed here.
"""

from pathlib import Path

import compared_methods
import numpy as np

GOLDEN = Path(__file__).parents[1] / "goldens/compared.npz"


def close(ours, theirs):
    assert set(ours) == set(theirs)
    for name, expected in theirs.items():
        scale = max(np.abs(expected).max(), 1e-30)
        print(f"{name}: {np.abs(ours[name].astype(float) - expected).max() / scale:.1e}")
        np.testing.assert_allclose(
            ours[name], expected, rtol=1e-5, atol=1e-5 * scale, err_msg=name
        )


def test_every_method():
    close(compared_methods.ours(), dict(np.load(GOLDEN)))


def test_the_stored_case_distinguishes_the_methods():
    """Checks that masks are neither empty nor full and differ, and that the margin matters."""
    golden = np.load(GOLDEN)
    assert 0 < golden["mask"].sum() < golden["first mask"].sum() < 28
    assert 0 < golden["irw"] < golden["iw"]
    assert (golden["mixstyle"][3] != golden["adain"][3]).all()
