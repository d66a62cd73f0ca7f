"""Files of torch.save, in both formats, hold for our reader what they hold for torch."""

import numpy as np
import pytest

from vseg_jax.weights import convert

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
         torch.int16, torch.int8, torch.uint8, torch.bool)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 4))
    storage = torch.arange(24.0)
    return {
        **network.state_dict(),
        **{str(kind): (torch.randn(2, 3) * 4).to(kind) for kind in TYPES},
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "transposed": storage.view(4, 6).t(), "part": storage[5:9], "every_other": storage[::2],
        "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 3),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["", "state_dict", "model"])
def test_our_reader_agrees_with_torch(state, zipped, name, tmp_path):
    path = tmp_path / "weights.pth"
    content = {name: state, "epoch": 7} if name else state
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = convert.read(path)
    assert list(read) == list(state)
    for key, tensor in state.items():
        tensor = tensor.detach()
        theirs = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        assert read[key].dtype == theirs.dtype
        np.testing.assert_array_equal(read[key], theirs)
