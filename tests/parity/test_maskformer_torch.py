"""Compares rcf without reference frames with MaskFormer's public head, live."""

import jax
import maskformer_public
import numpy as np
import pytest
import seeded

from vseg_jax.models.rcf.tokens import sine

torch = pytest.importorskip("torch")
import references  # noqa: E402

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def root():
    folder = references.folder()
    if folder is None or not (folder / "MaskFormer").is_dir():
        pytest.skip("set VSEG_REFERENCES to a folder with MaskFormer (docs/parity.md)")
    return folder


def test_outputs_and_gradients(root):
    head, maps = maskformer_public.load(root), maskformer_public.maps()
    shapes = {k: tuple(v.shape) for k, v in head.state_dict().items()}
    head.load_state_dict({k: torch.from_numpy(v) for k, v in seeded.state_dict(shapes).items()})
    theirs = [torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_() for x in maps]
    expected = head(dict(zip(maskformer_public.PYRAMID, theirs, strict=True)))
    pulls = {name: seeded.inputs(name, tuple(x.shape)) for name, x in expected.items()}
    sum((x * torch.from_numpy(pulls[n])).sum() for n, x in expected.items()).backward()
    variables = jax.tree.map(jax.numpy.asarray, maskformer_public.variables(shapes))
    predict = jax.jit(lambda maps: maskformer_public.prediction(variables, maps))
    prediction, back = jax.vjp(predict, maps)
    gradients, = back(pulls)
    for name, x in expected.items():
        _compare(name, prediction[name], x.detach().numpy(), 1e-5)
    for name, ours, x in zip(maskformer_public.PYRAMID, gradients, theirs, strict=True):
        _compare(f"gradient of {name}", ours, np.moveaxis(x.grad.numpy(), 1, -1), 1e-4)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (12, 20), (5, 7)])
def test_position_codes(root, size):
    theirs = maskformer_public.positions(root)(torch.zeros(1, 64, *size))[0].numpy()
    np.testing.assert_allclose(
        sine(*size, 64), np.moveaxis(theirs, 0, -1).reshape(-1, 64), atol=2e-5)


def _compare(name, ours, theirs, limit):
    difference = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    print(f"{name}: {difference:.1e}")
    assert difference < limit, name
