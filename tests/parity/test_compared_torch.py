"""Compares the methods compared with qvim to their public code (docs/parity.md): 1e-5."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("kmeans1d")

import compared_methods  # noqa: E402
import references  # noqa: E402
from test_compared_goldens import close  # noqa: E402

from vseg_jax.models.qvim import photometric  # noqa: E402

pytestmark = pytest.mark.parity


def test_every_method():
    root = references.folder()
    if root is None or not (root / "RobustNet").is_dir():
        pytest.skip("no RobustNet under VSEG_REFERENCES")
    close(compared_methods.ours(), compared_methods.public(root))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_changes_of_color(name):
    """Compares with torchvision on floats."""
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    clips = np.random.default_rng(0).random((2, 3, 9, 11, 3), np.float32)
    clips[0, 0, :3] = 0.5  # gray: no hue
    factors = np.float32([-0.21, 0.3] if name == "hue" else [0.37, 1.6])
    ours = jax.jit(getattr(photometric, name))(clips, factors)
    for clip, factor, mine in zip(clips, factors, ours, strict=True):
        frames = torch.from_numpy(np.moveaxis(clip, -1, 1).copy())
        theirs = getattr(functional, f"adjust_{name}")(frames, float(factor))
        np.testing.assert_allclose(mine, theirs.movedim(1, -1), atol=2e-6)


def test_blur():
    """Compares with SciPy, which the public code calls through scikit-image."""
    filters = pytest.importorskip("scipy.ndimage")
    clips = np.random.default_rng(0).random((2, 2, 9, 11, 3), np.float32)
    sigma = np.float32([0.2, 1.29])
    ours = jax.jit(photometric.blur)(clips, sigma)
    for clip, s, mine in zip(clips, sigma, ours, strict=True):
        theirs = [filters.gaussian_filter(f, (s, s, 0), mode="nearest") for f in clip]
        np.testing.assert_allclose(mine, theirs, atol=2e-6)
