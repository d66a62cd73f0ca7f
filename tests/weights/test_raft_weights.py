import json
from pathlib import Path

import numpy as np
import pytest
from pytorch_files import views, write_zip

from vseg_jax.weights.raft import load

GOLDENS = Path(__file__).parents[1] / "goldens"
RNG = np.random.default_rng(0)


def public(variant: str, without: str = "", **more) -> dict[str, np.ndarray]:
    """A state dict with the public names and shapes, as a checkpoint of DataParallel."""
    shapes = json.loads(str(np.load(GOLDENS / f"raft_{variant}.npz")["shapes"]))
    arrays = {
        f"module.{key}": RNG.random(shape, np.float32)
        for key, shape in shapes.items() if key != without
    }
    return arrays | more


def saved(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    return write_zip(path / "raft.pth", views(arrays))


@pytest.mark.parametrize("variant", ["small", "large"])
def test_the_file_says_which_variant_it_is(tmp_path, variant):
    arrays = public(variant)
    network, variables = load(saved(tmp_path, arrays))
    assert network.variant == variant
    params = variables["params"]
    theirs = arrays["module.update_block.flow_head.conv2.weight"]
    np.testing.assert_array_equal(params["update"]["head2"]["kernel"][0, 2], theirs[:, :, 0, 2].T)
    theirs = arrays["module.fnet.layer2.0.downsample.0.weight"]
    kernel = params["features"]["layer2_0"]["skip_conv"]["kernel"]
    np.testing.assert_array_equal(kernel, theirs[:, :, 0, 0].T)
    if variant == "large":
        theirs = arrays["module.update_block.gru.convq2.weight"]  # along the columns
        kernel = params["update"]["q2"]["kernel"]
        np.testing.assert_array_equal(kernel[4, 0], theirs[:, :, 4, 0].T)
        statistics = variables["batch_stats"]["context"]["layer3_0"]["skip_norm"]["var"]
        theirs = arrays["module.cnet.layer3.0.downsample.1.running_var"]
        np.testing.assert_array_equal(statistics, theirs)


def test_keys_unexpected_and_missing_are_named(tmp_path):
    arrays = public("small", without="cnet.conv2.bias")
    arrays["module.cnet.layer9.0.conv1.weight"] = np.zeros((8, 8, 1, 1), np.float32)
    arrays["module.strange"] = np.zeros(2, np.float32)
    with pytest.raises(ValueError) as error:
        load(saved(tmp_path, arrays))
    said = str(error.value)
    assert "unexpected: strange" in said and "unexpected: cnet.layer9.0.conv1.weight" in said
    assert "missing: no key fills params/context/out/bias" in said
