import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_cvls import build

from vseg_jax.config import parse, section, shallow
from vseg_jax.models import cvls
from vseg_jax.models.cvls import CvlsConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip_target": 1}, "clip of 1 frames"),
        ({"lambda_ccl": 1.5}, "share"),
        ({"tau": 0.0}, "above 0"),
        ({"max_objects": 255}, "1 ... 254"),
        ({"rhic_ratio": (0, 3)}, "parts of hard"),
        ({"lcf_reduction": 0}, "divides the 256 channels"),
    ],
)
def test_wrong_values_are_rejected(wrong, message):
    with pytest.raises(ValueError, match=message):
        CvlsConfig(**wrong)


def test_the_config_survives_its_file_form():
    config = CvlsConfig(rhic_ratio=(4, 1), backbone="i3d", lambda_ccl=0.2)
    assert parse(CvlsConfig, section(CvlsConfig, **shallow(config)).to_dict()) == config


@pytest.mark.parametrize(("ratio", "share"), [((1, 3), 0.25), ((4, 1), 0.8), ((1, 1), 0.5)])
def test_ratio_is_hard_to_easy(ratio, share):
    assert CvlsConfig(rhic_ratio=ratio).hard_share == share


def test_the_package_exports_config_and_model():
    assert cvls.Config is CvlsConfig and isinstance(build(), cvls.Model)


def test_weights_of_another_network_are_rejected(tmp_path, variables):
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": np.zeros((4, 3, 7, 7), np.float32), "mystery": np.zeros(1)}, path)
    with pytest.raises(ValueError, match="mystery"):
        build(backbone_weights=str(path)).pretrained(variables)
    assert build().pretrained(variables) is variables
